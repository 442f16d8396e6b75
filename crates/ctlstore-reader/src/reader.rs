//! The library that programs use: it reads rows of the LDB from any thread. Entry points:
//! [`Reader`], and [`RotatingReader`] for several LDBs in turn.
//!
//! It stands on `read`, in which one connection serves one thread. This room gives each thread a
//! connection of its own, and lets a reader ask how old the data may be.

mod freshness;
mod handle;
mod pool;
mod rotating;
mod threads;

pub use handle::{Reader, Scan};
pub use rotating::RotatingReader;
