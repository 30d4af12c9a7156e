//! The same measurements of another build of observer, in turns with this one: what the machine does to one, it does to both.

use std::path::Path;

use anyhow::{Context, Result};
use observer_harness::daemon::use_product;

use crate::figure::{Figure, Outcome, Reference};

/// Whose turn it is: each build is once before and once after the other.
const TURNS: [Build; 4] = [Build::This, Build::Other, Build::Other, Build::This];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Build {
    This,
    Other,
}

/// Makes a measurement of both builds, and returns the figures of this one with those of the other beside them. Of two
/// turns the better value counts, because interference makes none better.
pub(crate) fn in_turns(other: &Path, measure: impl Fn() -> Result<Vec<Figure>>) -> Result<Vec<Figure>> {
    let mut figures: [Option<Vec<Figure>>; 2] = [None, None];
    for turn in TURNS {
        use_product((turn == Build::Other).then(|| other.to_owned()));
        let measured = measure();
        use_product(None);
        let [this, others] = &mut figures;
        let best = if turn == Build::This { this } else { others };
        match best {
            None => *best = Some(measured?),
            Some(best) => keep_better(best, measured?),
        }
    }
    let [this, others] = figures;
    let (this, others) = (this.context("no turn")?, others.context("no turn of the other")?);
    Ok(this.into_iter().zip(others).map(|(figure, other)| with_reference(figure, &other)).collect())
}

fn keep_better(best: &mut [Figure], again: Vec<Figure>) {
    for (best, again) in best.iter_mut().zip(again) {
        if let (Outcome::Measured(one), Outcome::Measured(two)) = (&best.outcome, &again.outcome)
            && best.better.worse_percent(one.value, two.value).is_some_and(|percent| percent > 0.0)
        {
            *best = again;
        }
    }
}

fn with_reference(figure: Figure, other: &Figure) -> Figure {
    match (&figure.outcome, &other.outcome) {
        (Outcome::Measured(this), Outcome::Measured(that)) => {
            let percent = (this.value / that.value - 1.0) * 100.0;
            let name = if percent.is_finite() {
                format!("the other build ({percent:+.1} %)")
            } else {
                "the other build".into()
            };
            let reference = Reference::measured(name, that.value, figure.unit.clone());
            let worse_percent = figure.better.worse_percent(this.value, that.value);
            Figure { worse_percent, ..figure }.against([reference])
        }
        (_, Outcome::Absent(why)) => {
            let reference = Reference::absent("the other build", why.clone());
            figure.against([reference])
        }
        (Outcome::Absent(_), Outcome::Measured(_)) => figure,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::figure::Sample;

    /// The figure of a build whose turns give 12 and 11, beside one whose turns give 10 and 20.
    fn compared(figure: fn(Sample) -> Figure) -> Result<Figure> {
        let values = RefCell::new(vec![12.0, 10.0, 20.0, 11.0]);
        let measured =
            in_turns(Path::new("/other"), || Ok(vec![figure(Sample::once(values.borrow_mut().remove(0)))]))?;
        measured.into_iter().next().context("a figure")
    }

    #[test]
    fn the_larger_of_two_turns_counts_where_more_is_better() -> Result<()> {
        let figure = compared(|sample| Figure::new("m", "w", "/s", sample).larger_is_better())?;
        assert!(
            matches!(figure.outcome, Outcome::Measured(Sample { value, .. }) if value == 12.0),
            "{figure:?}"
        );
        assert!(
            figure.is_worse(66.0).is_some() && figure.is_worse(67.0).is_none(),
            "20 beside 12: {figure:?}"
        );
        Ok(())
    }

    #[test]
    fn the_smaller_of_two_turns_counts_for_each_build() -> Result<()> {
        let figure = compared(|sample| Figure::new("m", "w", "s", sample))?;
        let [reference] = figure.references.as_slice() else { anyhow::bail!("one reference: {figure:?}") };
        assert!(
            matches!(figure.outcome, Outcome::Measured(Sample { value, .. }) if value == 11.0),
            "{figure:?}"
        );
        assert_eq!(
            (reference.value.clone(), reference.name.as_str()),
            (Ok(10.0), "the other build (+10.0 %)")
        );
        assert!(figure.is_worse(9.0).is_some() && figure.is_worse(11.0).is_none(), "{figure:?}");
        Ok(())
    }
}
