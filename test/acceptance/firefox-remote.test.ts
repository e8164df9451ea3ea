// v86 on the page of Firefox, its disk in an engine in a worker: the same story by messages and QMP.
import { test } from "vitest";
import { behindWriter, onThePage, savedMachine } from "./stories/remote.ts";

test("a saved machine goes on after a reload, unless its disk was written to since", () =>
  savedMachine("firefox"));
test("boot, fill, lose the network, stop, go on, finish, with v86 on the page", () => onThePage("firefox"));
behindWriter("firefox");
