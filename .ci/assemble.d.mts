/** The bytes of the program `source`, a path within the repository at `root`. Throws in words that say what to install. */
export function assemble(program: { root: string; source: string }): Uint8Array<ArrayBuffer>;
