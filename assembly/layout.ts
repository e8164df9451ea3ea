/**
 * Where the kernels' own tables and scratch areas lie: from the end of the static data on. They are addresses and not
 * static data, since an imported memory would make the compiler ship their zeros. All are 64-aligned.
 */
const BASE: usize = (__heap_base + 63) & ~63;

/** 16 tables of 256 u32, built at start. */
export const CRC_TABLES: usize = BASE;
/** 209 vectors of history and a batch of 1024. */
export const CRC_SCRATCH: usize = CRC_TABLES + 16 * 256 * 4;
/** 209 vectors. */
export const CRC_REMAINDER: usize = CRC_SCRATCH + (209 + 1024) * 16;
/** Eight u64 lanes. */
export const XXH3_LANES: usize = (CRC_REMAINDER + 209 * 16 + 63) & ~63;
/** The first address that is the caller's. */
export const END: usize = XXH3_LANES + 64;
