/**
 * The formats that are meant where none is named, for those who must know it before any driver is loaded (--help). The drivers
 * say the same (DriverType.isDefault; tested).
 */

/** The disk's bytes as they are: what no format claims, and what tools after qemu-img make by default. */
export const plainFormat = "raw";

/** Of overlays. */
export const overlayFormat = "qcow2";
