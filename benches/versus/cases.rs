//! The loads: what is sent, how large, on how many connections, how often.

use super::driver::What;

/// A load with its name, and how often it is sent on each of so many connections.
pub struct Case {
    pub name: String,
    pub what: What,
    pub size: &'static str,
    pub connections: usize,
    /// To the null store, and to MinIO; none if the store does not take part.
    pub requests: [usize; 2],
}

/// The bodies, by name.
pub const SIZES: [(&str, usize); 6] = [
    ("none", 0),
    ("4 KiB", 4 << 10),
    ("64 KiB", 64 << 10),
    ("1 MiB", 1 << 20),
    ("8 MiB", 8 << 20),
    ("64 MiB", 64 << 20),
];

/// Bytes of the object that is uploaded by parts and read by ranges: 1 GiB.
pub const LARGE: usize = 1 << 30;

/// How long its parts are.
pub const PART: &str = "8 MiB";

/// How many keys a listing has.
pub const LISTED: usize = 10_000;

/// All loads, in the order in which they are measured.
pub fn cases() -> Vec<Case> {
    let loads = [
        ("4 KiB", 1, [3000, 300]),
        ("4 KiB", 16, [500, 60]),
        ("4 KiB", 128, [60, 10]),
        ("1 MiB", 1, [300, 40]),
        ("1 MiB", 16, [40, 8]),
        ("64 MiB", 1, [8, 3]),
        ("64 MiB", 4, [4, 2]),
        ("64 MiB", 16, [1, 1]),
    ];
    let whole = loads.into_iter().flat_map(|(size, connections, requests)| {
        [(What::Put, "PUT"), (What::Get, "GET")].map(|(what, method)| Case {
            name: format!("{method} {size} ×{connections}"),
            what,
            size,
            connections,
            requests,
        })
    });
    let minio = |name: &str, what, size, connections, requests| Case {
        name: format!("{name} ×{connections}"),
        what,
        size,
        connections,
        requests: [0, requests],
    };
    let parts = LARGE / size(PART) / 4;
    let rest = [
        minio("upload of 1 GiB, 8 MiB parts", What::Upload, PART, 4, parts),
        minio("read of it, 8 MiB ranges", What::Ranges, PART, 4, parts),
        minio("64 KiB of it, anywhere", What::Random(LARGE as u64), "64 KiB", 1, 250),
        minio("64 KiB of it, anywhere", What::Random(LARGE as u64), "64 KiB", 16, 50),
        minio("list of 10,000", What::List(LISTED), "none", 1, 2),
        minio("list of 10,000", What::List(LISTED), "none", 16, 1),
    ];
    whole.chain(rest).collect()
}

/// How long the body of this name is.
pub fn size(name: &str) -> usize {
    SIZES.iter().find(|(size, _)| *size == name).expect("every size has a name").1
}
