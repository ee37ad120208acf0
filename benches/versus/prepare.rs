//! Before a load is measured: what it reads is written, a peer's answers are compared with what it was given, and it is
//! looked up in the store's files that a peer which seals has left nothing there as it was.

use std::collections::HashMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::Method;

use super::cases::{Case, LARGE, LISTED, PART, SIZES};
use super::chance;
use super::contenders::Contender;
use super::driver::{Load, What, fill, once, range, run};
use super::kms::Kes;
use super::wire::Target;

/// How long a peer may take to write the objects of the listing.
const FILLING: Duration = Duration::from_secs(240);

/// How long an object of the listing is.
const SMALL: usize = 1024;

/// What a load wants to be there, and to be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Need {
    Whole(&'static str),
    Upload,
    Large,
    Listing,
}

/// What has been made ready before a store, and what could not be.
pub struct Prepared {
    store: Target,
    /// Where the store keeps the buckets, if in files.
    files: Option<PathBuf>,
    bodies: HashMap<&'static str, Bytes>,
    known: HashMap<(String, Need), Result<(), String>>,
}

impl Prepared {
    pub fn new(store: &Target, files: Option<PathBuf>) -> Self {
        let bodies = SIZES.map(|(name, size)| (name, chance::bytes(size))).into();
        Self { store: store.clone(), files, bodies, known: HashMap::new() }
    }

    /// The body of this name.
    pub fn body(&self, size: &str) -> Bytes {
        self.bodies[size].clone()
    }

    /// Makes a contender's bucket.
    pub async fn bucket(&self, contender: &Contender) -> Result<(), String> {
        let Ok(peer) = &contender.peer else { return Ok(()) };
        let mut buckets = vec![(&peer.target, &contender.bucket)];
        if contender.stored != contender.bucket {
            buckets.insert(0, (&self.store, &contender.stored));
        }
        for (target, bucket) in buckets {
            let made = once(target, Method::PUT, &format!("/{bucket}"), Bytes::new()).await;
            // Two share one, and a second measurement finds the first one's.
            made.map(drop).or_else(|why| if why.contains("BucketAlready") { Ok(()) } else { Err(why) })?;
        }
        if contender.native {
            let path = format!("/{}?encryption=", contender.bucket);
            once(&self.store, Method::PUT, &path, Kes::bucket_default()).await?;
        }
        Ok(())
    }

    /// Makes ready what a load wants of a contender. `Err` says why it can't do it.
    pub async fn ready(&mut self, contender: &Contender, case: &Case) -> Result<(), String> {
        let needs: &[Need] = match case.what {
            What::Put | What::Get => &[Need::Whole(case.size)],
            What::Upload => &[Need::Upload],
            What::Ranges | What::Random(_) => &[Need::Upload, Need::Large],
            What::List(_) => &[Need::Listing],
        };
        for need in needs {
            let key = (contender.name.clone(), *need);
            let known = match self.known.get(&key) {
                Some(known) => known.clone(),
                None => {
                    let made = self.make(contender, *need).await;
                    self.known.insert(key, made.clone());
                    made
                }
            };
            known?;
        }
        Ok(())
    }

    async fn make(&self, contender: &Contender, need: Need) -> Result<(), String> {
        let target = &contender.peer.as_ref().map_err(Clone::clone)?.target;
        match need {
            Need::Whole(size) => {
                let (path, body) = (contender.kept(size), self.body(size));
                once(target, Method::PUT, &path, body.clone()).await?;
                same(&once(target, Method::GET, &path, Bytes::new()).await?, &body)?;
            }
            Need::Upload => {
                let path = contender.kept("parts");
                self.upload(target, &path, 1, 3).await?;
                same(&once(target, Method::GET, &path, Bytes::new()).await?, &self.body(PART).repeat(3))?;
            }
            Need::Large => self.large(target, &contender.kept("large")).await?,
            Need::Listing => self.listing(target, &format!("/{}/list/", contender.bucket)).await?,
        }
        self.sealed(contender)
    }

    async fn upload(
        &self,
        target: &Target,
        path: &str,
        connections: usize,
        parts: usize,
    ) -> Result<(), String> {
        let requests = parts / connections;
        let load =
            Load { what: What::Upload, path: path.to_owned(), body: self.body(PART), connections, requests };
        run(target, &load).await.map(drop)
    }

    /// Uploads the large object, unless it is there, and compares some of its ranges: across parts, and its end.
    async fn large(&self, target: &Target, path: &str) -> Result<(), String> {
        let part = self.body(PART);
        if once(target, Method::HEAD, path, Bytes::new()).await.is_err() {
            self.upload(target, path, 4, LARGE / part.len()).await?;
        }
        for from in [0, 12_345, part.len() - 100, 17 * part.len() - 40_000, LARGE - 65_536] {
            let to = from + 65_536;
            let expected: Bytes = (from..to).map(|at| part[at % part.len()]).collect();
            same(&range(target, path, from, to).await?, &expected)
                .map_err(|why| format!("at byte {from}: {why}"))?;
        }
        Ok(())
    }

    /// Writes the keys that are listed, unless they are there, and compares the sizes that a listing gives.
    async fn listing(&self, target: &Target, path: &str) -> Result<(), String> {
        let what = What::List(LISTED);
        let load = Load { what, path: path.to_owned(), body: Bytes::new(), connections: 1, requests: 1 };
        if run(target, &load).await.is_err() {
            fill(target, path, &chance::bytes(SMALL), LISTED, FILLING).await?;
            run(target, &load).await?;
        }
        let (bucket, prefix) = path[1..].split_once('/').expect("a bucket and a prefix");
        let query = format!("list-type=2&prefix={}", prefix.replace('/', "%2F"));
        let page = once(target, Method::GET, &format!("/{bucket}?{query}"), Bytes::new()).await?;
        let page = String::from_utf8_lossy(&page);
        match page.matches("<Key>").count() == page.matches(&format!("<Size>{SMALL}</Size>")).count() {
            true => Ok(()),
            false => Err("it lists other sizes than the objects have".into()),
        }
    }

    /// What is sealed shows nothing; and what is not does, or this looks in the wrong place.
    fn sealed(&self, contender: &Contender) -> Result<(), String> {
        let Some(files) = &self.files else { return Ok(()) };
        let needle = &self.bodies["4 KiB"][512..576];
        match (exposed(&files.join(&contender.stored), needle), contender.seals) {
            (Some(file), true) => {
                let file = file.strip_prefix(files).unwrap_or(&file).display().to_string();
                Err(format!("the store holds plaintext: {file}"))
            }
            (None, false) => Err("the store's files do not show what was written: the check is wrong".into()),
            _ => Ok(()),
        }
    }
}

fn same(answer: &[u8], given: &[u8]) -> Result<(), String> {
    match answer == given {
        true => Ok(()),
        false => Err(format!("{} other bytes came back than the {} given", answer.len(), given.len())),
    }
}

/// The first file below a directory that holds these bytes near its beginning, where every body has them. Of the thousands
/// of small ones some are enough.
fn exposed(directory: &Path, needle: &[u8]) -> Option<PathBuf> {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(directory).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    entries.sort();
    entries.into_iter().take(200).find_map(|path| {
        if path.is_dir() {
            return exposed(&path, needle);
        }
        let mut head = Vec::new();
        fs::File::open(&path).ok()?.take(256 << 10).read_to_end(&mut head).ok()?;
        head.windows(needle.len()).any(|piece| piece == needle).then_some(path)
    })
}
