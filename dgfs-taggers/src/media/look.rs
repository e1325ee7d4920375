//! How a picture looks, in a few numbers.
//!
//! Never depends on the machine: all sums are of whole numbers. The perceptual hash is the sign of the low frequencies
//! against their median (Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010).

use image::RgbImage;

/// Side of the square that is transformed.
pub(crate) const SIDE: u32 = 32;
/// Low frequencies in each direction.
const LOW: usize = 8;
/// A colour that covers this share of a picture is one of its colours.
const SHARE_MIN: f64 = 0.2;

/// The perceptual hash of a picture shrunk to 32 by 32.
pub(crate) fn perceptual_hash(small: &RgbImage) -> u64 {
    // Luminance after ITU-R BT.601, times 1000.
    let gray: Vec<i64> = small
        .pixels()
        .map(|pixel| {
            let [red, green, blue] = pixel.0.map(i64::from);
            299 * red + 587 * green + 114 * blue
        })
        .collect();
    let side = SIDE as usize;
    let cosines = cosines();
    let wave = |frequency: usize| cosines.iter().skip(frequency * side).take(side);
    // Rows first: for each row its low frequencies.
    let mut rows = vec![0_i64; side * LOW];
    for (row, sums) in gray.chunks(side).zip(rows.chunks_mut(LOW)) {
        for (frequency, sum) in sums.iter_mut().enumerate() {
            *sum = row.iter().zip(wave(frequency)).map(|(value, wave)| value * wave).sum::<i64>() >> 12;
        }
    }
    let mut low = Vec::with_capacity(LOW * LOW);
    for vertical in 0..LOW {
        for horizontal in 0..LOW {
            let column = rows.iter().skip(horizontal).step_by(LOW);
            low.push(column.zip(wave(vertical)).map(|(value, wave)| value * wave).sum::<i64>());
        }
    }
    // The mean of the picture is no shape.
    let mut sorted: Vec<i64> = low.iter().skip(1).copied().collect();
    sorted.sort_unstable();
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or(0);
    low.iter().fold(0, |hash, value| hash << 1 | u64::from(*value > median))
}

/// cos((2x+1)uπ/64) times 4096, for frequencies u and places x. Rounded, so that no machine's last digit counts.
fn cosines() -> Vec<i64> {
    let wave = |frequency: u32, at: u32| {
        let angle = f64::from((2 * at + 1) * frequency) * std::f64::consts::PI / f64::from(2 * SIDE);
        (angle.cos() * 4096.0).round() as i64
    };
    (0..LOW as u32).flat_map(|frequency| (0..SIDE).map(move |at| wave(frequency, at))).collect()
}

/// A colour with its name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Colour {
    pub(crate) name: &'static str,
    /// Of the picture, 0 to 1.
    pub(crate) share: f64,
    /// The mean of its pixels.
    pub(crate) rgb: [u8; 3],
}

/// The colours that cover a fifth of the picture or more, the largest first; at least one.
pub(crate) fn colours(small: &RgbImage) -> Vec<Colour> {
    let mut sums: Vec<(&'static str, u64, [u64; 3])> = Vec::new();
    for pixel in small.pixels() {
        let name = name_of(pixel.0);
        let at = sums.iter().position(|(known, ..)| *known == name).unwrap_or_else(|| {
            sums.push((name, 0, [0; 3]));
            sums.len() - 1
        });
        if let Some((_, count, sum)) = sums.get_mut(at) {
            *count += 1;
            for (sum, value) in sum.iter_mut().zip(pixel.0) {
                *sum += u64::from(value);
            }
        }
    }
    sums.sort_by(|one, two| two.1.cmp(&one.1).then(one.0.cmp(two.0)));
    let all = sums.iter().map(|(_, count, _)| count).sum::<u64>().max(1);
    let colours = sums.into_iter().enumerate().filter_map(|(at, (name, count, sum))| {
        let share = count as f64 / all as f64;
        let rgb = sum.map(|sum| u8::try_from(sum / count.max(1)).unwrap_or(u8::MAX));
        (at == 0 || share >= SHARE_MIN).then_some(Colour { name, share, rgb })
    });
    colours.collect()
}

/// One of the eleven colour words that English and many languages have (Berlin and Kay, 1969).
fn name_of([red, green, blue]: [u8; 3]) -> &'static str {
    let (red, green, blue) = (i32::from(red), i32::from(green), i32::from(blue));
    let most = red.max(green).max(blue);
    let least = red.min(green).min(blue);
    let spread = most - least;
    // Saturation below a sixth looks gray, and in the dark nothing has a colour.
    if most < 40 {
        return "black";
    }
    if spread * 6 < most {
        return match most {
            ..70 => "black",
            70..215 => "gray",
            _ => "white",
        };
    }
    let hue = if most == red {
        (60 * (green - blue) / spread).rem_euclid(360)
    } else if most == green {
        60 * (blue - red) / spread + 120
    } else {
        60 * (red - green) / spread + 240
    };
    match hue {
        ..15 | 345.. if most > 200 && spread * 2 < most => "pink",
        ..15 | 345.. => "red",
        15..45 if most < 160 => "brown",
        15..45 => "orange",
        45..70 => "yellow",
        70..165 => "green",
        165..255 => "blue",
        255..295 => "purple",
        295..345 => "pink",
    }
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::{SIDE, colours, name_of, perceptual_hash};

    fn picture(paint: impl Fn(u32, u32) -> [u8; 3]) -> RgbImage {
        RgbImage::from_fn(SIDE, SIDE, |x, y| Rgb(paint(x, y)))
    }

    #[test]
    fn like_pictures_have_like_hashes() {
        let scene = |x: u32, y: u32| ((x * x + y * 3) % 97 + if x > y { 100 } else { 0 }) as u8;
        let one = perceptual_hash(&picture(|x, y| [scene(x, y); 3]));
        let brighter = perceptual_hash(&picture(|x, y| [scene(x, y).saturating_add(20); 3]));
        let other = perceptual_hash(&picture(|x, y| [((x ^ y) * 7 % 200) as u8; 3]));
        assert!((one ^ brighter).count_ones() <= 6, "{:?}", (one ^ brighter).count_ones());
        assert!((one ^ other).count_ones() > 16, "{:?}", (one ^ other).count_ones());
    }

    #[test]
    fn a_hash_never_changes() {
        assert_eq!(
            perceptual_hash(&picture(|x, y| [(x * x % 251) as u8, (y * 37 % 253) as u8, (x * y % 241) as u8])),
            GOLDEN
        );
    }

    const GOLDEN: u64 = 9_673_582_893_062_511_188;

    #[test]
    fn colours_have_their_names() {
        let cases = [
            ([0, 0, 0], "black"),
            ([255, 255, 255], "white"),
            ([128, 128, 128], "gray"),
            ([220, 20, 30], "red"),
            ([250, 150, 20], "orange"),
            ([240, 230, 40], "yellow"),
            ([40, 160, 60], "green"),
            ([30, 80, 200], "blue"),
            ([140, 60, 220], "purple"),
            ([120, 70, 30], "brown"),
            ([255, 150, 160], "pink"),
        ];
        for (rgb, name) in cases {
            assert_eq!(name_of(rgb), name, "{rgb:?}");
        }
        let found = colours(&picture(|x, _| if x < 24 { [30, 80, 200] } else { [255, 255, 255] }));
        assert_eq!(found.iter().map(|colour| colour.name).collect::<Vec<_>>(), ["blue", "white"]);
        assert_eq!((found[0].share, found[0].rgb), (0.75, [30, 80, 200]));
    }
}
