// Why the system refused something: in the C library's words, with the path where nobody else names it.
import { expect, test } from "vitest";
import { CommandError } from "../../../src/base/errors.ts";
import { reasonOf, reasonWithPath } from "../../../src/cli/reason.ts";

/** As Node makes them. */
function systemError(facts: { code: string; syscall: string; path?: string }): Error {
  return Object.assign(new Error(`${facts.code}: words of Node, ${facts.syscall}`), facts);
}

test.each([
  [systemError({ code: "ENOENT", syscall: "open", path: "/a" }), "No such file or directory"],
  [systemError({ code: "EACCES", syscall: "mkdir", path: "/a b" }), "Permission denied"],
])("%s", (error, words) => {
  expect(reasonOf(error)).toBe(words);
  expect(reasonWithPath(error)).toBe(`'${(error as Error & { path: string }).path}': ${words}`);
});

test("what has no path, and what is not the system's", () => {
  const refused = systemError({ code: "ECONNREFUSED", syscall: "connect" });
  expect(reasonOf(refused)).toBe("Connection refused");
  // Its message has the address.
  expect(reasonWithPath(refused)).toBe("ECONNREFUSED: words of Node, connect");
  expect(reasonOf(new CommandError("our own"))).toBe("our own");
  expect(reasonWithPath("thrown")).toBe("thrown");
});
