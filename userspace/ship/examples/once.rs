//! Ships an archive once, for tests that end it in the middle: ARCHIVE ORIGIN STATE URL ENDPOINT, with the store's
//! credentials in the environment.

use std::path::Path;

use ship::pass::Shipper;
use ship::place::{Credentials, Place};
use ship::remote::Remote;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut told = std::env::args().skip(1);
    let mut next = || told.next().ok_or("ARCHIVE ORIGIN STATE URL ENDPOINT");
    let (archive, origin, state, url, endpoint) = (next()?, next()?, next()?, next()?, next()?);
    let mut place = Place::new(&url)?;
    place.endpoint = Some(endpoint);
    place.credentials = Credentials::of_environment(std::env::vars());
    let remote = Remote::open(&place)?;
    let shipped = Shipper::open(Path::new(&archive), &origin, Path::new(&state), remote)?.pass()?;
    eprintln!("{shipped:?}");
    Ok(())
}
