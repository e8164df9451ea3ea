/** The queue of what came: messages are the same however the bytes were cut, and nothing is taken by halves. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Inbox } from "../../../../src/wire/nbd/bytes.ts";
import { hex } from "./support.ts";

describe("Inbox", () => {
  it("gives whole parts only, a view where they came in one piece", () => {
    const inbox = new Inbox();
    const piece = hex("0102030405");
    inbox.push(piece);
    expect(inbox.take(6)).toBeUndefined();
    expect(inbox.length).toBe(5);
    expect(inbox.take(2)?.buffer).toBe(piece.buffer);
    inbox.push(hex("0607"));
    expect(inbox.take(4)).toEqual(hex("03040506"));
    expect(inbox.take(0)).toEqual(new Uint8Array(0));
    expect(inbox.take(1)).toEqual(hex("07"));
    expect(inbox.length).toBe(0);
  });

  it("fills, skips and clears as far as there are bytes", () => {
    const inbox = new Inbox();
    inbox.push(hex("0102"));
    inbox.push(hex("0304"));
    expect(inbox.skip(1)).toBe(1);
    const target = new Uint8Array(2);
    expect(inbox.takeInto(target)).toBe(2);
    expect(target).toEqual(hex("0203"));
    expect(inbox.skip(5)).toBe(1);
    inbox.push(hex("05"));
    inbox.clear();
    expect(inbox.takeInto(target)).toBe(0);
  });

  it("does not care where the bytes were cut", () => {
    const cuts = fc.array(fc.uint8Array({ maxLength: 9 }), { maxLength: 12 });
    fc.assert(
      fc.property(cuts, fc.array(fc.nat(11), { maxLength: 12 }), (pieces, takes) => {
        const all = Uint8Array.from(pieces.flatMap((piece) => [...piece]));
        const inbox = new Inbox();
        pieces.forEach((piece) => inbox.push(piece));
        let at = 0;
        for (const count of takes) {
          const part = inbox.take(count);
          expect(part === undefined).toBe(at + count > all.byteLength);
          if (!part) continue;
          expect(part).toEqual(all.subarray(at, at + count));
          at += count;
        }
        expect(inbox.length).toBe(all.byteLength - at);
      }),
    );
  });
});
