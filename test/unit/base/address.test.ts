/** Addresses of sockets as people write them: one reader for QMP, NBD, HTTP and backups of running programs. */
import { expect, it } from "vitest";
import { readAddress } from "../../../src/base/address.ts";

it.each([
  ["unix:a.sock", { type: "unix", path: "a.sock" }],
  ["unix:/run/a:1", { type: "unix", path: "/run/a:1" }],
  ["localhost:10809", { type: "inet", host: "localhost", port: 10_809 }],
  ["tcp:localhost:0", { type: "inet", host: "localhost", port: 0 }],
  ["[::1]:10809", { type: "inet", host: "::1", port: 10_809 }],
  ["tcp:[::1]:65535", { type: "inet", host: "::1", port: 65_535 }],
])("%s", (text, address) => {
  expect(readAddress(text)).toEqual(address);
});

it.each([
  "",
  "unix:",
  "somewhere",
  "tcp:4444",
  ":4444",
  "host:",
  "host:99999",
  "host:-1",
  "::1:4444",
  "[]:1",
])("'%s' is none", (text) => {
  expect(readAddress(text)).toBeUndefined();
});
