/**
 * A disk as a stream: `gzip-disk.ts IMAGE OUT.gz` packs what a guest sees, `gzip-disk.ts -d IN.gz IMAGE` unpacks it into an image that
 * is there. Node's streams wait for each other, so that memory stays flat however long the disk is, and an error on either side ends both.
 */
import { createReadStream, createWriteStream } from "node:fs";
import { Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGunzip, createGzip } from "node:zlib";
import { openNode } from "blockwright/node";

const words = process.argv.slice(2);
const unpack = words[0] === "-d";
const [from, to] = unpack ? words.slice(1) : words;
if (from === undefined || to === undefined) {
  console.error("usage: gzip-disk.ts [-d] FROM TO");
  process.exit(2);
}

const disk = await openNode(unpack ? to : from, { readOnly: !unpack });
try {
  if (unpack) await pipeline(createReadStream(from), createGunzip(), Writable.fromWeb(disk.writable()));
  else await pipeline(disk.readable(), createGzip(), createWriteStream(to, { flags: "wx" }));
} finally {
  await disk.close();
}
