//! The server as Google's own client sees it.

#[cfg(test)]
mod access;
#[cfg(test)]
mod delivery;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod support;
