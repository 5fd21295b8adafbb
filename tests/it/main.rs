//! The integration tests: hearthd as a whole, against data and an independent model.

#[cfg(test)]
mod support;

#[cfg(test)]
mod admin_socket;
#[cfg(test)]
mod bounds;
#[cfg(test)]
mod capture;
#[cfg(test)]
mod convergence;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod doctor;
#[cfg(test)]
mod exits;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod http;
#[cfg(test)]
mod log_secrets;
#[cfg(test)]
mod poison;
#[cfg(test)]
mod quarantine_cli;
#[cfg(test)]
mod query;
#[cfg(test)]
mod reading_cli;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod replay_cli;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod sdm_bodies;
#[cfg(test)]
mod service;
#[cfg(test)]
mod service_files;
#[cfg(test)]
mod sinks;
#[cfg(test)]
mod store;
#[cfg(test)]
mod store_clock;
#[cfg(test)]
mod store_corruption;
#[cfg(test)]
mod store_files;
#[cfg(test)]
mod store_full_disk;
#[cfg(test)]
mod store_migration;
#[cfg(test)]
mod store_quarantine;
#[cfg(test)]
mod systemd;
