//! Finds lines in a map of how likely each place belongs to a text.
//!
//! Never recurses, and never gives more than [`LINES_MAX`] lines. Follows Liao et al., "Real-time Scene Text Detection with
//! Differentiable Binarization" (2020): a line is what hangs together above a threshold, grown by what the network shrank.

/// Lines of a picture at most: a densely printed page has 200.
const LINES_MAX: usize = 400;
/// A place with this probability belongs to a text.
const PLACE_MIN: f32 = 0.3;
/// The places of a line have this probability in the mean.
const LINE_MIN: f32 = 0.5;
/// Places on the shorter side of a line: less is noise.
const SIDE_MIN: usize = 3;
/// How much smaller than its line a network draws its core: the inverse of the paper's shrinking, as PaddleOCR sets it.
const GROWTH: f32 = 1.6;

/// A rectangle around a line: left, top, right, bottom; the last two lie outside of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct LineBox([f32; 4]);

impl LineBox {
    /// Grown, and in pixels of a picture: `None` where nothing of it is left inside.
    pub(super) fn scaled(self, (x, y): (f32, f32), (width, height): (u32, u32)) -> Option<Self> {
        let [left, top, right, bottom] = self.0;
        let (across, down) = (right - left, bottom - top);
        let grown = across * down * GROWTH / (2.0 * (across + down));
        let across = |value: f32| (value * x).round().clamp(0.0, width as f32);
        let down = |value: f32| (value * y).round().clamp(0.0, height as f32);
        let placed = [across(left - grown), down(top - grown), across(right + grown), down(bottom + grown)];
        let [left, top, right, bottom] = placed;
        (right - left >= 1.0 && bottom - top >= 1.0).then_some(Self(placed))
    }

    /// Left, top, width and height in whole pixels.
    pub(super) fn place(self) -> [u32; 4] {
        let [left, top, right, bottom] = self.0.map(|value| value as u32);
        [left, top, right.saturating_sub(left).max(1), bottom.saturating_sub(top).max(1)]
    }
}

/// The cores of lines in a map with so many columns.
pub(super) fn lines(map: &[f32], columns: usize) -> Vec<LineBox> {
    let mut is_free: Vec<bool> = map.iter().map(|value| *value > PLACE_MIN).collect();
    let mut found = Vec::new();
    let mut waiting = Vec::new();
    for start in 0..map.len() {
        if found.len() >= LINES_MAX {
            break;
        }
        if !take(&mut is_free, start) {
            continue;
        }
        waiting.push(start);
        let mut core = Core { left: columns, top: usize::MAX, right: 0, bottom: 0, sum: 0.0, count: 0 };
        // Each place is taken once, so `waiting` never holds more than the map.
        while let Some(at) = waiting.pop() {
            let (row, column) = (at / columns, at % columns);
            core.add(row, column, map.get(at).copied().unwrap_or(0.0));
            for near in neighbours(row, column, columns) {
                if take(&mut is_free, near) {
                    waiting.push(near);
                }
            }
        }
        found.extend(core.line());
    }
    found
}

fn take(is_free: &mut [bool], at: usize) -> bool {
    is_free.get_mut(at).is_some_and(std::mem::take)
}

fn neighbours(row: usize, column: usize, columns: usize) -> impl Iterator<Item = usize> {
    let rows = row.saturating_sub(1)..=row + 1;
    let sides = column.saturating_sub(1)..=(column + 1).min(columns - 1);
    rows.flat_map(move |row| sides.clone().map(move |column| row * columns + column))
}

/// Places that hang together.
struct Core {
    left: usize,
    top: usize,
    right: usize,
    bottom: usize,
    sum: f32,
    count: usize,
}

impl Core {
    fn add(&mut self, row: usize, column: usize, value: f32) {
        (self.left, self.right) = (self.left.min(column), self.right.max(column + 1));
        (self.top, self.bottom) = (self.top.min(row), self.bottom.max(row + 1));
        self.sum += value;
        self.count += 1;
    }

    fn line(&self) -> Option<LineBox> {
        let is_large = self.right.saturating_sub(self.left).min(self.bottom.saturating_sub(self.top)) >= SIDE_MIN;
        let is_sure = self.sum / self.count.max(1) as f32 >= LINE_MIN;
        let corners = [self.left, self.top, self.right, self.bottom].map(|value| value as f32);
        (is_large && is_sure).then_some(LineBox(corners))
    }
}

/// Lines in reading order: those whose middles lie within half of a line's height are one row.
pub(super) fn rows(mut lines: Vec<LineBox>) -> Vec<Vec<LineBox>> {
    lines.sort_by(|LineBox([_, one, ..]), LineBox([_, two, ..])| one.total_cmp(two));
    let mut rows: Vec<Vec<LineBox>> = Vec::new();
    for line in lines {
        let LineBox([_, top, _, bottom]) = line;
        let middle = f32::midpoint(top, bottom);
        let last = rows.last_mut().filter(|row| {
            row.first().is_some_and(|LineBox([_, top, _, bottom])| {
                let distance = (f32::midpoint(*top, *bottom) - middle).abs();
                distance < (bottom - top) / 2.0
            })
        });
        match last {
            Some(row) => row.push(line),
            None => rows.push(vec![line]),
        }
    }
    for row in &mut rows {
        row.sort_by(|LineBox([one, ..]), LineBox([two, ..])| one.total_cmp(two));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::{LINES_MAX, LineBox, lines, rows};

    fn map(columns: usize, rows: usize, is_text: impl Fn(usize, usize) -> bool) -> Vec<f32> {
        (0..rows * columns).map(|at| if is_text(at % columns, at / columns) { 0.9 } else { 0.1 }).collect()
    }

    #[test]
    fn what_hangs_together_is_a_line_and_noise_is_none() {
        let two = map(20, 10, |x, y| (x < 8 && y < 3) || (x > 10 && (4..8).contains(&y)) || (x == 2 && y == 8));
        let found = lines(&two, 20);
        assert_eq!(found, [LineBox([0.0, 0.0, 8.0, 3.0]), LineBox([11.0, 4.0, 20.0, 8.0])]);
        let grown = found[0].scaled((2.0, 2.0), (40, 20)).unwrap();
        assert_eq!(grown.place(), [0, 0, 19, 9]);
        assert_eq!(lines(&[f32::NAN; 100], 10), []);
        assert_eq!(lines(&[], 10), []);
    }

    #[test]
    fn a_page_of_specks_stays_bounded() {
        let specks = map(400, 400, |x, y| x % 4 < 3 && y % 4 < 3);
        assert_eq!(lines(&specks, 400).len(), LINES_MAX);
    }

    #[test]
    fn lines_come_in_reading_order() {
        let [one, two, three] = [[50.0, 2.0, 90.0, 12.0], [0.0, 0.0, 40.0, 10.0], [0.0, 20.0, 9.0, 30.0]].map(LineBox);
        assert_eq!(rows(vec![three, one, two]), [vec![two, one], vec![three]]);
    }
}
