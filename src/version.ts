/**
 * What Blockwright calls itself. The build replaces the version by package.json's.
 */
declare const BLOCKWRIGHT_VERSION: string | undefined;

/** The package's version. */
export const version: string = typeof BLOCKWRIGHT_VERSION === "string" ? BLOCKWRIGHT_VERSION : "0.0.0-source";

/** What monitors answer to query-version: the QEMU whose behaviour this is, and who answers. */
export const qemuVersion = { qemu: { major: 7, minor: 2, micro: 22 }, package: `blockwright ${version}` };
