// The demo as files alone in Chromium: a cut that a service worker plays, what the page says of it, and a reload while it lasts.
import { test } from "vitest";
import { demo } from "./stories/demo.ts";

test("the demo of files alone waits, says why, and goes on by itself", () => demo("chromium"));
