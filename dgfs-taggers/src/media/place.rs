//! Where on earth a point is: the nearest town, without a network.
//!
//! Never loads the table of towns (GeoNames, of 1,000 people and more) before the first point. A point far from every
//! town is in no place.

use std::sync::LazyLock;

use reverse_geocoder::ReverseGeocoder;

use crate::findings::Findings;

/// Kilometres to the nearest town within which a point is in that place.
const TOWN_KM_MAX: f64 = 50.0;
/// Kilometres within which it is in that country.
const COUNTRY_KM_MAX: f64 = 100.0;
const EARTH_RADIUS_KM: f64 = 6371.0;

static TOWNS: LazyLock<ReverseGeocoder> = LazyLock::new(ReverseGeocoder::new);

/// Adds the point and its place. Degrees north and east; what is no point on earth is left out.
pub(crate) fn describe(latitude: f64, longitude: f64, out: &mut Findings) {
    let is_on_earth = (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude);
    // Cameras without a fix write zeros, which is a point in the ocean.
    if !is_on_earth || (latitude == 0.0 && longitude == 0.0) {
        return;
    }
    out.number("latitude", latitude);
    out.number("longitude", longitude);
    let nearest = TOWNS.search((latitude, longitude));
    let town = nearest.record;
    // The table measures the square of the chord on a globe of radius 1.
    let chord = nearest.distance.max(0.0).sqrt();
    let km = 2.0 * (chord / 2.0).min(1.0).asin() * EARTH_RADIUS_KM;
    if km <= TOWN_KM_MAX {
        mark(&[&town.cc, &town.name], out);
        // A large city is often the name of the region, and its towns are its quarters.
        if !town.admin1.is_empty() {
            mark(&[&town.cc, &town.admin1], out);
        }
        out.text_value("place", &format!("{}, {}, {}", town.name, town.admin1, town.cc));
    } else if km <= COUNTRY_KM_MAX {
        mark(&[&town.cc], out);
    }
}

fn mark(names: &[&str], out: &mut Findings) {
    let segments: Vec<&str> = std::iter::once("place").chain(names.iter().copied()).collect();
    if let Some(tag) = crate::tag_name::path(&segments) {
        out.mark(&tag, 0.9);
    }
}

/// A point as ISO 6709 spells it: `+31.8639+117.2808+030/`.
pub(crate) fn parse(text: &str) -> Option<(f64, f64)> {
    let text = text.trim_end_matches('/');
    let second = text.get(1..)?.find(['+', '-'])? + 1;
    let (latitude, rest) = text.split_at_checked(second)?;
    let end = rest.get(1..)?.find(['+', '-']).map_or(rest.len(), |at| at + 1);
    Some((latitude.parse().ok()?, rest.get(..end)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{describe, parse};
    use crate::findings::Findings;

    fn tags(latitude: f64, longitude: f64) -> Vec<String> {
        let mut out = Findings::default();
        describe(latitude, longitude, &mut out);
        out.marks.into_iter().map(|mark| mark.tag).collect()
    }

    #[test]
    fn points_have_places_and_the_ocean_has_none() {
        assert_eq!(tags(31.864, 117.281), ["place:cn:hefei", "place:cn:anhui sheng"]);
        assert_eq!(tags(52.52, 13.405), ["place:de:mitte", "place:de:berlin"]);
        for (latitude, longitude) in [(0.0, 0.0), (-45.0, -140.0), (91.0, 0.0), (f64::NAN, 5.0), (0.1, f64::INFINITY)] {
            assert_eq!(tags(latitude, longitude), Vec::<String>::new(), "{latitude} {longitude}");
        }
    }

    #[test]
    fn points_are_read() {
        assert_eq!(parse("+31.8639+117.2808+030.5/"), Some((31.8639, 117.2808)));
        assert_eq!(parse("-10.5-020"), Some((-10.5, -20.0)));
        for text in ["", "+", "+1", "abc", "+\u{e9}+\u{e9}"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
