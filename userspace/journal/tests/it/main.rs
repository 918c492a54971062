//! The journal as its users see it.

#[cfg(test)]
mod disks;
#[cfg(test)]
mod identities;
#[cfg(test)]
mod prune;
mod recorder;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod seals;
#[cfg(test)]
mod world;
