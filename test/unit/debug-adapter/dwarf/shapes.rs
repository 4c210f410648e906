// A freestanding crate: namespaces, an enumeration with fields, and a generic function, as the kernel's Rust has them.
#![no_core]
#![feature(no_core, lang_items, auto_traits)]
#![allow(internal_features)]
#![no_std]
#[lang = "pointee_sized"]
pub trait PointeeSized {}
#[lang = "meta_sized"]
pub trait MetaSized: PointeeSized {}
#[lang = "sized"]
pub trait Sized: MetaSized {}
#[lang = "copy"]
pub trait Copy {}
impl Copy for u32 {}
#[lang = "freeze"]
auto trait Freeze {}
#[lang = "sync"]
auto trait Sync {}

#[lang = "drop_in_place"]
unsafe fn drop_in_place<T: PointeeSized>(_: *mut T) {}

pub mod geometry {
    pub enum Shape {
        Nothing,
        Circle { radius: u32 },
        Box(u32, u32),
    }
    #[no_mangle]
    pub static SHAPE: Shape = Shape::Box(7, 9);
    #[inline(never)]
    pub fn first_of(shape: &Shape) -> u32 {
        match shape {
            Shape::Nothing => 0,
            Shape::Circle { radius } => *radius,
            Shape::Box(width, _) => *width,
        }
    }
}
