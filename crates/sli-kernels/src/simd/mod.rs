//! The vector abstraction that every kernel is written against, one file an instruction set.
//!
//! A value of a type that implements [`Simd`] is a token: it exists only if the machine has the
//! instructions, which is why its methods are safe to call. A kernel is a [`SimdOp`]; its `run` is
//! `#[inline(always)]`, as is everything it calls, so that [`Simd::vectorize`] compiles the whole of
//! it with the instruction set switched on.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub(crate) mod math;
#[cfg(target_arch = "aarch64")]
mod neon;
mod plain;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) use neon::Neon;
pub(crate) use plain::Plain;

/// Columns of one packed panel of weights; a multiple of every instruction set's vector width.
pub(crate) const PANEL: usize = 32;

/// The most `f32` lanes of any instruction set.
pub(crate) const MAX_LANES: usize = 16;

/// A computation that is generic over the instruction set.
pub(crate) trait SimdOp {
    /// What it returns.
    type Output;

    /// The computation. Implementations are `#[inline(always)]`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// A vector instruction set.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// `f32` lanes of a vector.
    const LANES: usize;
    /// Most rows of a register tile of the matrix product.
    const TILE_ROWS: usize;
    /// Vector registers.
    const REGISTERS: usize;
    /// Those that a register tile may use for its sums.
    const TILE_SUMS: usize;
    /// Steps of a panel that one tile after the other goes over before the next ones: where tiles have few rows, what stays in the
    /// first-level cache beside them, as they take more of it in a cycle than the second level gives. It divides a block.
    const NEAR_STEPS: usize;

    /// A vector of `f32`.
    type F: Copy;
    /// A vector of pairs of bf16, each pair in the place of one `f32`.
    type Pairs: Copy;
    /// The outcome of a comparison, lane by lane.
    type Mask: Copy;

    /// Runs `op` compiled for this instruction set.
    fn vectorize<O: SimdOp>(self, op: O) -> O::Output;

    /// Computes one register tile of a matrix product.
    ///
    /// # Safety
    ///
    /// As for [`crate::gemm::tile::compute`].
    unsafe fn tile<B: Panel, const R: usize, const P: usize>(self, tile: &Tile);

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::F;

    /// Reads a vector.
    ///
    /// # Safety
    ///
    /// `from` must be valid for reading [`Self::LANES`] elements; any alignment.
    unsafe fn load(self, from: *const f32) -> Self::F;

    /// Writes a vector.
    ///
    /// # Safety
    ///
    /// `to` must be valid for writing [`Self::LANES`] elements; any alignment.
    unsafe fn store(self, to: *mut f32, x: Self::F);

    /// Reads a vector of bf16.
    ///
    /// # Safety
    ///
    /// `from` must be valid for reading [`Self::LANES`] elements; any alignment.
    unsafe fn load_bf16(self, from: *const u16) -> Self::F;

    /// Rounds to the nearest bf16 (ties to even) and writes. NaN stays NaN; an input below the
    /// smallest normal number may become zero.
    ///
    /// # Safety
    ///
    /// `to` must be valid for writing [`Self::LANES`] elements; any alignment.
    unsafe fn store_bf16(self, to: *mut u16, x: Self::F);

    /// Reads a vector of binary16.
    ///
    /// # Safety
    ///
    /// `from` must be valid for reading [`Self::LANES`] elements; any alignment.
    unsafe fn load_f16(self, from: *const u16) -> Self::F;

    /// Reads a vector of bf16 pairs.
    ///
    /// # Safety
    ///
    /// `from` must be valid for reading [`Self::LANES`] elements; any alignment.
    unsafe fn load_pairs(self, from: *const u32) -> Self::Pairs;

    /// Writes a vector of bf16 pairs.
    ///
    /// # Safety
    ///
    /// `to` must be valid for writing [`Self::LANES`] elements; any alignment.
    unsafe fn store_pairs(self, to: *mut u32, x: Self::Pairs);

    /// Pairs of numbers rounded to the nearest bf16 (ties to even), `low` in the lower halves. NaN
    /// stays NaN.
    fn round_pairs(self, low: Self::F, high: Self::F) -> Self::Pairs;

    /// All lanes the pair `x`.
    fn splat_pair(self, x: u32) -> Self::Pairs;

    /// The lower halves, exactly.
    fn low_of_pairs(self, x: Self::Pairs) -> Self::F;

    /// The higher halves, exactly.
    fn high_of_pairs(self, x: Self::Pairs) -> Self::F;

    /// `sum + a.0 * b.0 + a.1 * b.1` in each lane, in an order and with roundings fixed for the
    /// instruction set.
    fn dot_pairs(self, sum: Self::F, a: Self::Pairs, b: Self::Pairs) -> Self::F;

    /// `a + b`.
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a - b`.
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b`.
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a / b`.
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// The square root.
    fn sqrt(self, a: Self::F) -> Self::F;
    /// `a * b + c`, fused where the instruction set has it.
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// The larger; `b` if `b` is NaN.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// The smaller; `b` if `b` is NaN.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// `|a|`.
    fn abs(self, a: Self::F) -> Self::F;
    /// The nearest integer, ties to even; `|a|` must be below 2^22.
    fn round(self, a: Self::F) -> Self::F;
    /// `a * 2^n` for integral `n` in -252..=252.
    fn scale_pow2(self, a: Self::F, n: Self::F) -> Self::F;
    /// `a < b`; false if either is NaN.
    fn less(self, a: Self::F, b: Self::F) -> Self::Mask;
    /// `yes` where `mask`, else `no`.
    fn select(self, mask: Self::Mask, yes: Self::F, no: Self::F) -> Self::F;
    /// The sum of all lanes, in an order fixed for the instruction set.
    fn sum(self, a: Self::F) -> f32;
    /// The largest lane; unspecified if one is NaN.
    fn maximum(self, a: Self::F) -> f32;

    /// Transposes a square of [`Self::LANES`] rows of words, `stride` bytes apart, into rows `to_stride` words
    /// apart.
    ///
    /// # Safety
    ///
    /// `from` must be valid for reading the rows, `to` for writing those of the outcome; any alignment.
    #[inline(always)]
    unsafe fn transpose(self, from: *const u8, stride: usize, to: *mut u32, to_stride: usize) {
        for row in 0..Self::LANES {
            for column in 0..Self::LANES {
                // SAFETY: within the square.
                unsafe {
                    let word = from.add(row * stride + 4 * column);
                    let word = word.cast::<[u8; 4]>().read();
                    to.add(column * to_stride + row)
                        .write_unaligned(u32::from_ne_bytes(word));
                };
            }
        }
    }

    /// `table[code & 15]` of as many of sixteen codes as there are lanes, from code `first` on.
    #[inline(always)]
    fn look_up(self, table: &[f32; 16], codes: &[u8; 16], first: usize) -> Self::F {
        let mut numbers = [0.0; MAX_LANES];
        for (number, code) in numbers.iter_mut().zip(&codes[first..]) {
            *number = table[usize::from(code & 15)];
        }
        self.get(&numbers)
    }

    /// As many of sixteen integers as there are lanes, from integer `first` on.
    #[inline(always)]
    fn widen(self, integers: &[i8; 16], first: usize) -> Self::F {
        let mut numbers = [0.0; MAX_LANES];
        for (number, &integer) in numbers.iter_mut().zip(&integers[first..]) {
            *number = f32::from(integer);
        }
        self.get(&numbers)
    }

    /// Asks for the cache line at `at`, which need not be a valid address, in the first-level cache.
    #[inline(always)]
    fn prefetch_near(self, at: *const u8) {
        let _ = at;
    }

    /// Asks for the cache line at `at`, which need not be a valid address, in the second-level cache.
    #[inline(always)]
    fn prefetch(self, at: *const u8) {
        let _ = at;
    }

    /// Reads the first vector of `from`, which must have at least [`Self::LANES`] elements.
    #[inline(always)]
    fn get(self, from: &[f32]) -> Self::F {
        assert!(from.len() >= Self::LANES);
        // SAFETY: long enough by the assertion.
        unsafe { self.load(from.as_ptr()) }
    }

    /// Writes the first vector of `to`, which must have at least [`Self::LANES`] elements.
    #[inline(always)]
    fn put(self, to: &mut [f32], x: Self::F) {
        assert!(to.len() >= Self::LANES);
        // SAFETY: long enough by the assertion.
        unsafe { self.store(to.as_mut_ptr(), x) }
    }

    /// Reads fewer than a vector; the other lanes are `fill`.
    #[inline(always)]
    fn get_part(self, from: &[f32], fill: f32) -> Self::F {
        let mut lanes = [fill; MAX_LANES];
        lanes[..from.len()].copy_from_slice(from);
        self.get(&lanes)
    }

    /// Writes the first `to.len()` lanes, fewer than a vector.
    #[inline(always)]
    fn put_part(self, to: &mut [f32], x: Self::F) {
        let mut lanes = [0.0; MAX_LANES];
        self.put(&mut lanes, x);
        to.copy_from_slice(&lanes[..to.len()]);
    }
}

/// How the elements of a panel are stored, and how they are multiplied.
pub(crate) trait Panel: Copy + Send + Sync + 'static {
    /// The value of the type.
    const NEW: Self;
    /// Elements of `k` in one step of the activations.
    const PER_STEP: usize;
    /// Steps of the activations that one step of the panel is multiplied with, one after the other.
    const WORDS: usize;
    /// Bytes of one step of the panel (one or two rows of 32 columns).
    const STEP_BYTES: usize;
    /// Whether reading a vector is more than a load: a panel that meets many tiles is then widened to
    /// `f32` first.
    const NARROW: bool;
    /// An activation, in all lanes.
    type A<S: Simd>: Copy;
    /// A vector of weights.
    type B<S: Simd>: Copy;

    /// Reads the 4 bytes of one step of one row of activations.
    ///
    /// # Safety
    ///
    /// `from` must be valid for reading 4 bytes and aligned to 4.
    unsafe fn activation<S: Simd>(s: S, from: *const u8) -> Self::A<S>;

    /// Reads vector `index` of a step, for its activations number `word`.
    ///
    /// # Safety
    ///
    /// `step` must be valid for reading [`Self::STEP_BYTES`] bytes; `index` below `PANEL / LANES`, `word`
    /// below [`Self::WORDS`].
    unsafe fn weights<S: Simd>(s: S, step: *const u8, index: usize, word: usize) -> Self::B<S>;

    /// `sum + a * b`.
    fn multiply_add<S: Simd>(s: S, sum: S::F, a: Self::A<S>, b: Self::B<S>) -> S::F;

    /// Weights as the `f32` that they are multiplied as.
    fn widened<S: Simd>(s: S, b: Self::B<S>) -> S::F;
}

/// Where one register tile reads and writes.
pub(crate) struct Tile {
    /// The first row of a block of activations; rows are [`BLOCK_ROW_BYTES`](crate::gemm::tile::BLOCK_ROW_BYTES) apart.
    pub a: *const u8,
    /// The first step of the first panel.
    pub b: *const u8,
    /// Bytes between panels.
    pub b_stride: usize,
    /// Steps of the panels, together at most [`BLOCK_STEPS`](crate::gemm::tile::BLOCK_STEPS) of the activations.
    pub steps: usize,
    /// The sums of the first row and panel; rows are `PANEL` elements apart.
    pub c: *mut f32,
    /// Elements between the sums of one panel and the next.
    pub c_stride: usize,
    /// Weights to ask for meanwhile, a step a step, of each panel.
    pub b_ahead: *const u8,
    /// Activations to ask for meanwhile, a cache line a step.
    pub a_ahead: *const u8,
    /// Whether the sums start from zero instead of from what is stored.
    pub fresh: bool,
}
