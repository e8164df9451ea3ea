/**
 * What Blockwright calls itself. The build replaces the version by package.json's.
 */
declare const BLOCKWRIGHT_VERSION: string | undefined;

/** The package's version. */
export const version: string = typeof BLOCKWRIGHT_VERSION === "string" ? BLOCKWRIGHT_VERSION : "0.0.0-source";

/** The release of QEMU whose behaviour this is. */
export const qemuRelease = "7.2.22";

const [major = 0, minor = 0, micro = 0] = qemuRelease.split(".").map(Number);

/** What monitors answer to query-version: the QEMU whose behaviour this is, and who answers. */
export const qemuVersion = { qemu: { major, minor, micro }, package: `blockwright ${version}` };
