//! Fingerprints against the definitions of likeness.

use super::{
    PICTURE_BITS_MAX, PICTURE_BITS_UNRELATED, Print, PrintKind, TEXT_ALIKE_MIN, TEXT_CERTAIN, TEXT_PLACES,
    VECTOR_DIMS_MAX,
};

fn meet(one: &Print, other: &Print) -> bool {
    let keys = other.keys();
    one.keys_alike().iter().any(|key| keys.contains(key))
}

fn text(change: impl Fn(usize) -> bool) -> Print {
    let places: Vec<u32> = (0..TEXT_PLACES).map(|at| at as u32 * 7 + u32::from(change(at))).collect();
    Print::text(&places).unwrap()
}

#[test]
fn texts_with_enough_equal_places_always_meet() {
    let whole = text(|_| false);
    // The worst case: as many bands as can be are spoilt by one place each.
    for spoilt in 0..=TEXT_PLACES - TEXT_CERTAIN {
        let other = text(|at| at % 3 == 1 && at / 3 < spoilt);
        assert!(meet(&whole, &other), "{spoilt} places");
        assert_eq!(whole.permille(&other), other.permille(&whole));
    }
    let spoilt = text(|at| at % 3 == 1 && at / 3 < 21);
    assert!(!meet(&whole, &spoilt), "one place more may keep them apart");
    assert_eq!(whole.permille(&text(|at| at >= TEXT_ALIKE_MIN)), Some(500));
    assert_eq!(whole.permille(&text(|at| at >= TEXT_ALIKE_MIN - 1)), None);
}

#[test]
fn pictures_within_the_distance_always_meet_and_others_are_not_alike() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut chance = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state ^ (state >> 29)
    };
    let picture = Print::picture(0x5a5a_5a5a_3c3c_3c3c).unwrap();
    for round in 0..2000 {
        let mut bits = 0x5a5a_5a5a_3c3c_3c3c_u64;
        let mut differing = 0_u64;
        while differing.count_ones() < 1 + round % (PICTURE_BITS_MAX + 4) {
            differing |= 1 << (chance() % 64);
        }
        bits ^= differing;
        let other = Print::picture(bits).unwrap();
        let alike = differing.count_ones() <= PICTURE_BITS_MAX;
        assert_eq!(picture.permille(&other).is_some(), alike, "{differing:#x}");
        assert!(!alike || meet(&picture, &other), "{differing:#x}");
    }
    assert_eq!(Print::picture_permille(PICTURE_BITS_UNRELATED), 0);
}

#[test]
fn what_cannot_be_compared_has_no_fingerprint() {
    assert_eq!(Print::text(&[1; 63]), None);
    assert_eq!(Print::picture(0), None, "one colour");
    assert_eq!(Print::picture(1 << 63 | 0b1111), None, "plain stripes");
    for numbers in [vec![], vec![0.0; 4], vec![f32::NAN, 1.0], vec![f32::INFINITY], vec![1.0; VECTOR_DIMS_MAX + 1]] {
        assert_eq!(Print::vector(&numbers), None, "{numbers:?}");
    }
    assert_eq!(Print::stored(PrintKind::Vector, vec![0; 3]), None);
    assert_eq!(Print::stored(PrintKind::Text, Vec::new()), None);
}

#[test]
fn vectors_are_alike_by_their_cosine() {
    let vector = |numbers: &[f32]| Print::vector(numbers).unwrap();
    assert_eq!(vector(&[3.0, 4.0]).permille(&vector(&[30.0, 40.0])), Some(1000));
    assert_eq!(vector(&[1.0, 0.0]).permille(&vector(&[0.8, 0.6])), Some(800));
    assert_eq!(vector(&[1.0, 0.0]).permille(&vector(&[0.0, 1.0])), None);
    assert_eq!(vector(&[1.0, 0.0]).permille(&vector(&[1.0, 0.0, 0.0])), None, "another model's");
    assert_eq!(vector(&[1.0, 0.0]).permille(&Print::picture(0x5a5a_5a5a_3c3c_3c3c).unwrap()), None);
}
