/**
 * Brands for offsets whose mix-up would corrupt an image: an offset that the guest sees, an offset in the image file,
 * an index of a cluster. All are safe integers >= 0, in bytes (clusters for ClusterIndex).
 */
declare const brand: unique symbol;

/** An offset on the virtual disk, bytes. */
export type GuestOffset = number & { readonly [brand]?: "guest" };
/** An offset in the image file, bytes. */
export type HostOffset = number & { readonly [brand]?: "host" };
/** The index of a cluster in the image file. */
export type ClusterIndex = number & { readonly [brand]?: "cluster" };
