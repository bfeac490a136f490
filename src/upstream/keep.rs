//! The file that keeps answers over a restart: written whole beside the old one and then put in its place, read once.

use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::Forwarder;
use crate::clock::unix_time;
use crate::file;
use crate::problem::Problem;
use crate::resolve::cache::Unusable;

/// In the data directory.
const FILE: &str = "cache";

impl Forwarder {
    /// Writes what is kept into a folder; says how many answers that were. Takes as long as the disk does.
    pub fn save(&self, folder: &Path) -> Result<usize, Problem> {
        let file = folder.join(FILE);
        let written = file::replace(&file, |out| self.cache().save(self.mark(), Instant::now(), unix_time(), out));
        written.map_err(|error| {
            let problem = Problem::new(format!("cannot keep the answers of upstreams over a restart: {error}"));
            problem.in_file(&file).hint("see whether the disk is full or the folder may be written").warning()
        })
    }

    /// Reads what was kept into a folder; says how many answers that were. Takes as long as the disk does. What cannot be
    /// used is told, and asked for again.
    pub fn restore(&self, folder: &Path) -> Result<usize, Problem> {
        let path = folder.join(FILE);
        let file = match file::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(unusable(path, &error.into())),
        };
        match self.cache().restore(self.mark(), Instant::now(), unix_time(), &mut BufReader::new(file)) {
            // That is nobody's mistake.
            Err(Unusable::Other) => Ok(0),
            restored => restored.map_err(|error| unusable(path, &error)),
        }
    }
}

fn unusable(path: PathBuf, error: &Unusable) -> Problem {
    let problem = Problem::new(format!("cannot use the answers that were kept over the restart: {error}")).in_file(path);
    problem.hint("nothing has to be done: they are asked for again, and the file is written anew").warning()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::Config;
    use std::fs;

    use super::*;
    use crate::dns::{Class, Names, Query, Question, Rcode, Record, Type};
    use crate::resolve::cache::Key;

    async fn forwarder(upstream: &str) -> Arc<Forwarder> {
        let config = Config { upstreams: Some(vec![upstream.parse().unwrap()]), ..Config::default() };
        Arc::new(Forwarder::new(&config, None, &[]).await.0)
    }

    #[tokio::test]
    async fn answers_are_there_again_for_those_who_ask_the_same_upstreams() {
        let folder = tempfile::tempdir().unwrap();
        let first = forwarder("192.0.2.1:53").await;
        assert_eq!(first.restore(folder.path()), Ok(0), "there is none yet");
        let query = Query::of(Question { name: "www.example.net".parse().unwrap(), qtype: Type::A, qclass: Class::IN });
        let mut message = query.response(Rcode::NOERROR);
        message.answers.push(Record::address(query.question.name.clone(), 300, [192, 0, 2, 9].into()));
        let turn = first.turn(&Key::new(&query, 0).unwrap()).unwrap();
        first.keep(&turn, &message.compose(true), Instant::now()).unwrap();
        assert_eq!(first.save(folder.path()), Ok(1));
        assert_eq!(first.save(folder.path()), Ok(1), "in the place of the other");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        let same = forwarder("192.0.2.1:53").await;
        assert_eq!(same.restore(folder.path()), Ok(1));
        assert_eq!(same.find(&Names::All, Instant::now()).len(), 1);
        assert_eq!(forwarder("192.0.2.2:53").await.restore(folder.path()), Ok(0), "another upstream may say otherwise");
        for other in [
            "upstreams = [\"192.0.2.1\"]\nfilter.private_addresses = true",
            "upstreams = [\"192.0.2.1\"]\n[[route]]\ndomains = [\"example.net\"]\nupstreams = []",
            "upstreams = [\"tls://192.0.2.1:53\"]",
        ] {
            let (other, _) = Forwarder::new(&toml::from_str(other).unwrap(), None, &[]).await;
            assert_eq!(other.restore(folder.path()), Ok(0), "other rules, or another way");
        }

        let path = folder.path().join(FILE);
        let mut octets = fs::read(&path).unwrap();
        *octets.last_mut().unwrap() ^= 1;
        fs::write(&path, octets).unwrap();
        let told = forwarder("192.0.2.1:53").await.restore(folder.path()).unwrap_err().to_string();
        assert!(told.contains("damaged") && told.contains(&path.display().to_string()), "{told}");
        let told = first.save(&folder.path().join("absent")).unwrap_err().to_string();
        assert!(told.contains("over a restart"), "{told}");
    }
}
