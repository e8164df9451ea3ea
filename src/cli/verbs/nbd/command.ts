/**
 * `blockwright nbd`: serves an image by NBD, or lists what another server has, with the command line of qemu-nbd.
 */
import type { Command } from "commander";
import { repeatable } from "../../options/flags.ts";
import { addImageFlags, examples } from "../../options/verb-flags.ts";
import type { NbdFlags } from "./flags.ts";

/** Adds the verb. */
export function addNbd(program: Command): void {
  const command = program
    .command("nbd")
    .description("serve an image by NBD, with the command line of qemu-nbd")
    .usage("[options] <file> | -L [options]")
    .addHelpText("after", examples("nbd -t -k /run/user/1000/disk.sock disk.qcow2"))
    .argument("[files...]", "an image file, or json:{…} as for --blockdev")
    .option("-p, --port <port>", "port to listen on", "10809")
    .option("-b, --bind <address>", "address to listen on; default: 127.0.0.1")
    .option("-k, --socket <path>", "a Unix socket to listen on, by its absolute path")
    .option(
      "--websocket [address]",
      "let pages' clients in by WebSocket instead: [HOST:]PORT[,origin=ORIGIN][,token-secret=ID]; default: a free port",
    )
    .option("-e, --shared <clients>", "clients at a time; 0: any number", "1")
    .option("-t, --persistent", "go on when the last client has gone")
    .option("-v, --verbose", "say why clients are dropped")
    .option("-x, --export-name <name>", "name of the export", "")
    .option("-D, --description <text>", "what people are told of the export")
    .option("-o, --offset <bytes>", "where in the image the export begins")
    .option("-A, --allocation-depth", "show which layer holds the data")
    .option("-B, --bitmap <name>", "show a persistent dirty bitmap; again for more", repeatable)
    .option("-L, --list", "list the exports of another server")
    .option("--tls-creds <id>", "id of an --object with TLS credentials")
    .option("--tls-authz <id>", "refused: there are no such objects")
    .option("--tls-hostname <name>", "with -L: the name that the server's certificate must be for")
    .option("--allow-plain-tcp", "listen without TLS on an address that others reach")
    .option("-T, --trace [what]", "accepted, without effect")
    .option("--fork", "go to the background once clients are served")
    .option("--pid-file <path>", "write the process id there")
    .option("--selinux-label <label>", "refused: sockets get no labels")
    .option("-c, --connect <device>", "refused: the kernel's client is nbd-client's business")
    .option("-d, --disconnect", "refused, as -c")
    .option("-f, --format <format>", "format of the image; default: probed")
    .option("-r, --read-only", "let clients read only")
    .option("-s, --snapshot", "write to an overlay that is thrown away")
    .option(
      "-l, --load-snapshot <which>",
      "show an internal snapshot: ID, NAME or snapshot.id=…,snapshot.name=…",
    )
    .option("-n, --nocache", "as --cache=none")
    .option("--cache <mode>", "none, writeback (default), writethrough, directsync, unsafe", repeatable)
    .option("--aio <mode>", "threads, native or io_uring: accepted, one way of I/O serves all", repeatable)
    .option("--discard <mode>", "ignore (default) or unmap", repeatable)
    .option("--detect-zeroes <mode>", "off (default), on or unmap");
  addImageFlags(command, { share: false }).action(async (files: string[], flags: NbdFlags) => {
    const { nbd } = await import("./run.ts");
    process.exitCode = await nbd(files, flags);
  });
}
