//! Metrics read back, for whoever shows them in another form.

use std::collections::BTreeMap;

use prometheus::proto::{Metric, MetricFamily};

/// All metrics at one moment.
pub struct Readings(Vec<MetricFamily>);

impl Readings {
    pub(super) fn new(families: Vec<MetricFamily>) -> Self {
        Self(families)
    }

    fn of(&self, name: &str) -> &[Metric] {
        self.0.iter().find(|family| family.name() == name).map_or(&[], MetricFamily::get_metric)
    }

    /// The sum of a metric over all labels; 0 for one that is not there yet.
    pub fn sum(&self, name: &str) -> f64 {
        self.of(name).iter().map(value).sum()
    }

    /// The sums of a metric by the values of one label.
    pub fn by(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for metric in self.of(name) {
            *sums.entry(labelled(metric, label).to_owned()).or_default() += value(metric);
        }
        sums
    }

    /// The same of those that have another label at this value.
    pub fn by_where(&self, name: &str, label: &str, (other, at): (&str, &str)) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for metric in self.of(name).iter().filter(|metric| labelled(metric, other) == at) {
            *sums.entry(labelled(metric, label).to_owned()).or_default() += value(metric);
        }
        sums
    }

    /// A histogram over all labels: its bounds, and how many fell within each and beyond them all, not added up.
    pub fn histogram(&self, name: &str) -> (Vec<f64>, Vec<u64>) {
        let (mut bounds, mut below, mut total) = (Vec::new(), Vec::<u64>::new(), 0);
        for metric in self.of(name) {
            let histogram = metric.get_histogram();
            total += histogram.get_sample_count();
            let buckets = histogram.get_bucket();
            bounds = buckets.iter().map(|bucket| bucket.upper_bound()).collect();
            below.resize(bounds.len(), 0);
            for (sum, bucket) in below.iter_mut().zip(buckets) {
                *sum += bucket.cumulative_count();
            }
        }
        let mut before = 0;
        let counts = below.into_iter().chain([total]).map(|sum| sum - std::mem::replace(&mut before, sum));
        (bounds, counts.collect())
    }
}

fn labelled<'a>(metric: &'a Metric, label: &str) -> &'a str {
    metric.get_label().iter().find(|pair| pair.name() == label).map_or("", |pair| pair.value())
}

fn value(metric: &Metric) -> f64 {
    // Each metric is of one kind, and the others are zero.
    metric.get_counter().get_value() + metric.get_gauge().get_value()
}
