//! `s3veil migrate`, `rotate`, `verify` and `stat`, the real program, on real stores: everything is kept, nothing that a client
//! writes meanwhile is lost, and whoever is killed goes on where he was.

#[path = "support/servers.rs"]
mod servers;
#[path = "estate/site.rs"]
mod site;
mod support;

#[path = "estate/guards.rs"]
mod guards;
#[path = "estate/keeping.rs"]
mod keeping;
#[path = "estate/kills.rs"]
mod kills;
#[path = "estate/overtaken.rs"]
mod overtaken;
#[path = "estate/rotating.rs"]
mod rotating;
#[path = "estate/verifying.rs"]
mod verifying;
#[path = "estate/versions.rs"]
mod versions;
#[path = "estate/writers.rs"]
mod writers;
