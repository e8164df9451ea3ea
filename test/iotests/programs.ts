// The programs that QEMU's own tests run with, by the variables that `check` reads, and the pairs of test and format in a table.
import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "../support/root.ts";

/** A test and its format. */
export interface Pair {
  readonly test: string;
  readonly format: string;
  /** Why it does not pass; absent: it does. */
  readonly reason?: string;
}

/** The pairs of a table beside this file. */
export function pairsOf(table: string): Pair[] {
  const text = readFileSync(join(root, "test", "iotests", table), "utf8").trimEnd();
  return text.split("\n").map((line) => {
    const [format = "", test = "", reason] = line.split("\t");
    return { test, format, ...(reason === undefined ? {} : { reason }) };
  });
}

/** A machine that halts at once: Debian's build has no qtest accelerator, and some tests only probe it. */
export function haltingMachine(folder: string): string {
  const rom = Buffer.alloc(65536, 0xf4);
  rom.set([0xfa, 0xf4, 0xeb, 0xfd], 0xfff0);
  writeFileSync(join(folder, "halt.bin"), rom);
  const program = join(folder, "qemu-system-x86_64");
  const lines = [
    "#!/bin/bash",
    'args=(); for a in "$@"; do [ "$a" = qtest ] && a=tcg; args+=("$a"); done',
    `exec /usr/bin/qemu-system-x86_64 -bios ${join(folder, "halt.bin")} "\${args[@]}"`,
  ];
  writeFileSync(program, `${lines.join("\n")}\n`);
  chmodSync(program, 0o755);
  return program;
}

/**
 * Our qemu-nbd as the server of the tests, of the programs in `shims`. They give a server a second from its start before they use it, within
 * which Node may not have begun where much else runs: here their `sleep` lasts until the server that was begun has said by its
 * file of a process id that it listens.
 */
export function ourServer(folder: string, shims: string): Record<string, string> {
  const own = join(folder, "server");
  mkdirSync(own);
  const program = (name: string, lines: readonly string[]): string => {
    writeFileSync(join(own, name), `${["#!/bin/bash", ...lines].join("\n")}\n`);
    chmodSync(join(own, name), 0o755);
    return join(own, name);
  };
  program("sleep", ['/bin/sleep "$@"', 'while [ -e "$SOCK_DIR/starting" ]; do /bin/sleep 0.1; done']);
  const server = program("qemu-nbd", [
    'for word in "$@"; do case "$word" in --pid-file=*) file=${word#*=} ;; esac; done',
    'case " $* " in *" --fork "* | *" -L "* | *" --list "*) file= ;; esac',
    'if [ -n "$file" ]; then',
    '  touch "$SOCK_DIR/starting"',
    '  (while kill -0 $$ && [ ! -e "$file" ]; do /bin/sleep 0.05; done; rm -f "$SOCK_DIR/starting") >/dev/null 2>&1 </dev/null &',
    "fi",
    `exec ${join(shims, "qemu-nbd")} "$@"`,
  ]);
  return { QEMU_NBD_PROG: server, PATH: `${own}:${process.env["PATH"] ?? ""}` };
}

/** Our programs under QEMU's names; the machine is ours, too, unless another one is given. */
export function ourPrograms(folder: string, machine?: string): Record<string, string> {
  const shims = join(folder, "shims");
  mkdirSync(shims);
  execFileSync(process.execPath, [join(root, "build", "cli", "main.js"), "shims", shims]);
  return {
    QEMU_IMG_PROG: join(shims, "qemu-img"),
    QEMU_IO_PROG: join(shims, "qemu-io"),
    QSD_PROG: join(shims, "qemu-storage-daemon"),
    QEMU_NBD_PROG: "/usr/bin/qemu-nbd",
    QEMU_PROG: machine ?? join(shims, "qemu-system-x86_64"),
  };
}
