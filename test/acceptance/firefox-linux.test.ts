// A real Linux as the guest of v86 in Firefox: Debian's kernel reads the disk while it is filled, loses its server, writes and reads
// again; its own checksums are those of the disk.
import { test } from "vitest";
import { linux } from "./stories/linux.ts";

test("Debian's kernel over HTTP while the overlay is filled", () => linux("firefox"));
