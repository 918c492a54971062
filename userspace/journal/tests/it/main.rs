//! The journal as its users see it.

#[cfg(test)]
mod recorder;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod world;
