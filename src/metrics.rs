//! What happens, in numbers, as Prometheus reads them (text exposition format 0.0.4). Whoever counts something has its
//! numbers itself and writes them to a [`Page`] when asked.

use std::fmt::{self, Display, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// For whoever is the only one to raise it at that time: no other processor is kept waiting for it.
    pub fn raise_alone(&self, by: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
    }

    /// For anybody.
    pub fn raise(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that many threads raise, each for itself, so that none waits for the others.
#[derive(Debug, Default)]
pub struct Sum {
    /// Of those who have none of their own, or had one.
    shared: Count,
    owners: Mutex<Vec<Arc<Own>>>,
}

/// A part of a [`Sum`] that one thread alone raises. On cache lines of its own: two, because processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Own(Count);

impl Own {
    pub fn raise(&self, by: u64) {
        self.0.raise_alone(by);
    }
}

impl Sum {
    /// For anybody.
    pub fn raise(&self, by: u64) {
        self.shared.raise(by);
    }

    /// For one more thread. What is held by nobody any more is added up.
    pub fn own(&self) -> Arc<Own> {
        let own = Arc::<Own>::default();
        let mut owners = self.lock();
        owners.retain(|owner| {
            let lives = Arc::strong_count(owner) > 1;
            if !lives {
                self.shared.raise(owner.0.get());
            }
            lives
        });
        owners.push(own.clone());
        own
    }

    pub fn get(&self) -> u64 {
        let owners = self.lock();
        owners.iter().map(|owner| owner.0.get()).sum::<u64>() + self.shared.get()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Own>>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Upper ends of a [`Histogram`]'s buckets.
const BOUNDS: [Duration; 12] = [
    Duration::from_micros(100),
    Duration::from_micros(300),
    Duration::from_millis(1),
    Duration::from_millis(3),
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(3),
];

/// How long something took, each time.
#[derive(Debug, Default)]
pub struct Histogram {
    /// Those within each bound and not within the one before; the last are above all.
    buckets: [Count; BOUNDS.len() + 1],
    nanoseconds: Count,
}

impl Histogram {
    /// So many that took so long each.
    pub fn note(&self, took: Duration, count: u64) {
        let place = BOUNDS.iter().position(|bound| took <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[place].raise(count);
        self.nanoseconds.raise(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).saturating_mul(count));
    }

    /// Adds those of another.
    pub fn absorb(&self, other: &Self) {
        let each =
            |histogram: &Self| histogram.buckets.iter().chain([&histogram.nanoseconds]).map(Count::get).collect::<Vec<_>>();
        let own = self.buckets.iter().chain([&self.nanoseconds]);
        own.zip(each(other)).for_each(|(count, by)| count.raise(by));
    }
}

/// Labels of a sample. Names are ours, values may be anything.
pub type Labels = Vec<(&'static str, String)>;

/// What kind of number a family holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    Gauge,
}

/// The page that is read.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    pub fn into_text(self) -> String {
        self.0
    }

    /// One number.
    pub fn number(&mut self, kind: Kind, name: &'static str, help: &str, value: impl Display) {
        self.family(kind, name, help, [(Labels::new(), value)]);
    }

    /// All numbers of one name.
    pub fn family<V: Display>(
        &mut self,
        kind: Kind,
        name: &'static str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels, V)>,
    ) {
        let word = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        self.head(word, name, help);
        for (labels, value) in samples {
            self.sample(name, &labels, value);
        }
    }

    /// All histograms of one name.
    pub fn histograms<'a>(
        &mut self,
        name: &'static str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels, &'a Histogram)>,
    ) {
        self.head("histogram", name, help);
        let (bucket, sum, count) = (format!("{name}_bucket"), format!("{name}_sum"), format!("{name}_count"));
        for (mut labels, histogram) in samples {
            let mut total = 0;
            let bounds = BOUNDS.iter().map(|bound| bound.as_secs_f64().to_string()).chain(["+Inf".to_owned()]);
            for (bound, own) in bounds.zip(&histogram.buckets) {
                total += own.get();
                labels.push(("le", bound));
                self.sample(&bucket, &labels, total);
                labels.pop();
            }
            self.sample(&sum, &labels, Duration::from_nanos(histogram.nanoseconds.get()).as_secs_f64());
            self.sample(&count, &labels, total);
        }
    }

    fn head(&mut self, kind: &str, name: &str, help: &str) {
        // Writing to a text cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &Labels, value: impl Display) {
        self.0.push_str(name);
        for (place, (label, value)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"{}\"", if place == 0 { '{' } else { ',' }, Escaped(value));
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }
}

/// A label's value as it stands between quotes.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            c => f.write_char(c),
        })
    }
}

#[cfg(test)]
mod tests {
    use prometheus_parse::{Scrape, Value};

    use super::*;

    #[test]
    fn another_s_parser_reads_what_was_written() {
        let odd = "a\\b\"c\nd{}=,é";
        let mut escaped = Page::default();
        escaped.family(Kind::Counter, "odd_total", "", [(vec![("odd", odd.to_owned())], 7)]);
        let text = escaped.into_text();
        assert!(text.ends_with("odd_total{odd=\"a\\\\b\\\"c\\nd{}=,é\"} 7\n"), "{text}");

        let mut page = Page::default();
        page.number(Kind::Gauge, "one", "The first.", 1.5);
        page.family(
            Kind::Counter,
            "two_total",
            "Of \\ these.",
            [(vec![("of", "[::1]:53".to_owned()), ("more", "x y".into())], 7)],
        );
        let histogram = Histogram::default();
        for took in [Duration::from_micros(100), Duration::from_micros(101), Duration::from_millis(2), Duration::from_secs(60)]
        {
            histogram.note(took, 1);
        }
        page.histograms("took_seconds", "How long.", [(vec![("of", "a".to_owned())], &histogram)]);
        let text = page.into_text();
        let scrape = Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap();
        let sample =
            |name: &str| scrape.samples.iter().find(|sample| sample.metric == name).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(sample("one").value, Value::Gauge(1.5));
        let two = sample("two_total");
        assert_eq!((&two.value, two.labels.get("more")), (&Value::Counter(7.0), Some("x y")));
        let Value::Histogram(buckets) = &sample("took_seconds").value else { panic!("{text}") };
        let counts: Vec<f64> = buckets.iter().map(|bucket| bucket.count).collect();
        assert_eq!((counts[0], counts[1], counts[3], counts[11], counts[12]), (1.0, 2.0, 3.0, 3.0, 4.0));
    }
}
