//! What the journal says of itself goes to those who wait for it, and to the log where that changes.

use std::mem::discriminant;
use std::sync::{Arc, Mutex, PoisonError};

use journal::recorder::{Durable, Health};
use proxy::durability::Durability;
use resolver::Progress;
use tracing::{error, info, warn};

/// Tells the workers, the forwarder of look-ups and the log.
pub(crate) fn tell(
    durability: Arc<Durability>,
    progress: Arc<Progress>,
) -> Box<dyn Fn(Durable) + Send> {
    let told = Mutex::new(Health::Open);
    Box::new(move |durable| {
        durability.publish(&durable);
        progress.publish(&durable);
        let mut told = told.lock().unwrap_or_else(PoisonError::into_inner);
        if discriminant(&*told) != discriminant(&durable.health) {
            say(&durable.health);
            *told = durable.health;
        }
    })
}

fn say(health: &Health) {
    match health {
        Health::Open => info!("the journal takes everything again"),
        Health::Pressure => warn!(
            "the journal's file system is almost full: new commands are refused, what ends is recorded; free space \
             there"
        ),
        Health::Failing(why) => error!(
            %why,
            "the journal can't be written: nothing is acknowledged, agents are told; it goes on by itself once the \
             disk works"
        ),
        Health::Failed(why) => error!(
            %why,
            "the journal has failed for good: nothing is let through; look at the disk and start the daemon anew"
        ),
    }
}

/// What a person is told of a journal that does not take everything.
pub(crate) fn trouble(health: &Health) -> Option<String> {
    match health {
        Health::Open => None,
        Health::Pressure => Some("almost full: new commands are refused".to_owned()),
        Health::Failing(why) => Some(format!("can't be written for now: {why}")),
        Health::Failed(why) => Some(format!("has failed for good: {why}")),
    }
}
