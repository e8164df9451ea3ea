// A guest of v86 in Firefox boots over HTTP while its overlay is filled, loses the network, gets it back, writes meanwhile, is
// reloaded and boots offline.
import { test } from "vitest";
import { story } from "./stories/story.ts";

test("boot over HTTP, fill, lose the network, stop, go on, finish; reload offline", () => story("firefox"));
