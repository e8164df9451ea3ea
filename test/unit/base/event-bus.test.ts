// Events are seen at once and in order, by those who listen.
import { expect, it } from "vitest";
import { EventBus } from "../../../src/base/event-bus.ts";

it("calls its subscribers at once, in the order in which they came", () => {
  const bus = new EventBus();
  const seen: string[] = [];
  bus.subscribe(({ event, data }) => seen.push(`first: ${event} ${JSON.stringify(data)}`));
  bus.subscribe(({ event }) => seen.push(`second: ${event}`));
  bus.emit("RESUME");
  bus.emit("STOP", { id: 1 });
  expect(seen).toEqual(["first: RESUME {}", "second: RESUME", 'first: STOP {"id":1}', "second: STOP"]);
});

it("calls nobody who has gone, also one who goes within an event", () => {
  const bus = new EventBus();
  const seen: string[] = [];
  const leave = bus.subscribe(({ event }) => {
    seen.push(event);
    leave();
  });
  bus.subscribe(({ event }) => seen.push(`other ${event}`));
  bus.emit("A");
  bus.emit("B");
  leave();
  expect(seen).toEqual(["A", "other A", "other B"]);
});

it("shows an event that a subscriber sends before the next subscriber sees the first", () => {
  const bus = new EventBus();
  const seen: string[] = [];
  bus.subscribe(({ event }) => {
    if (event === "OUTER") bus.emit("INNER");
  });
  bus.subscribe(({ event }) => seen.push(event));
  bus.emit("OUTER");
  expect(seen).toEqual(["INNER", "OUTER"]);
});
