//! Pictures as the numbers that networks take.
//!
//! Never keeps a picture. Always: 8-bit values become 0 to 1, less a mean, divided by a deviation.

use image::RgbImage;

use super::runtime::Floats;
use crate::external::model::Layout;

/// How a picture becomes numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Normal {
    /// Of red, green and blue.
    pub(super) mean: [f32; 3],
    pub(super) std: [f32; 3],
    pub(super) layout: Layout,
    pub(super) order: Order,
}

/// The order of the colours of a pixel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Rgb,
    Bgr,
}

impl Normal {
    /// One picture as a network's input, `width` wide: what a narrower picture leaves free on its right is 0.
    pub(super) fn numbers(&self, picture: &RgbImage, width: u32) -> Floats {
        let (used, rows) = (picture.width().min(width) as usize, picture.height() as usize);
        let columns = width as usize;
        let mut values = vec![0.0; 3 * rows * columns];
        let colours: [usize; 3] = match self.order {
            Order::Rgb => [0, 1, 2],
            Order::Bgr => [2, 1, 0],
        };
        for (row, pixels) in picture.rows().enumerate() {
            for (column, pixel) in pixels.take(used).enumerate() {
                let normal = pixel.0.into_iter().zip(self.mean).zip(self.std);
                let normal = normal.map(|((value, mean), std)| (f32::from(value) / 255.0 - mean) / std);
                for (number, colour) in normal.zip(colours) {
                    let at = match self.layout {
                        Layout::Nchw => (colour * rows + row) * columns + column,
                        Layout::Nhwc => (row * columns + column) * 3 + colour,
                    };
                    if let Some(place) = values.get_mut(at) {
                        *place = number;
                    }
                }
            }
        }
        let shape = match self.layout {
            Layout::Nchw => vec![1, 3, rows, columns],
            Layout::Nhwc => vec![1, rows, columns, 3],
        };
        Floats { shape, values }
    }
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::{Normal, Order};
    use crate::external::model::Layout;

    #[test]
    fn colours_lie_where_the_network_looks_for_them() {
        let picture = RgbImage::from_fn(2, 1, |x, _| if x == 0 { Rgb([255, 0, 0]) } else { Rgb([0, 0, 255]) });
        let normal = Normal { mean: [0.0; 3], std: [0.5, 1.0, 1.0], layout: Layout::Nchw, order: Order::Rgb };
        let planes = normal.numbers(&picture, 3);
        assert_eq!(planes.shape, [1, 3, 1, 3]);
        assert_eq!(planes.values, [2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        let turned = Normal { layout: Layout::Nhwc, order: Order::Bgr, ..normal }.numbers(&picture, 2);
        assert_eq!((turned.shape, turned.values), (vec![1, 1, 2, 3], vec![0.0, 0.0, 2.0, 1.0, 0.0, 0.0]));
    }
}
