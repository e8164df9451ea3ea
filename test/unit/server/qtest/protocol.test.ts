// The qtest protocol: the clock, memory and what is accepted without effect; answers as those of the real one.
import { describe, expect, it } from "vitest";
import { StillClock } from "../../../../src/cli/machine/still-clock.ts";
import { QtestSession } from "../../../../src/server/qtest/protocol.ts";

function session(): { say: (line: string) => string; clock: StillClock } {
  const clock = new StillClock();
  const qtest = new QtestSession(clock);
  return { say: (line) => qtest.answer(line), clock };
}

describe("qtest", () => {
  it("moves the clock, which never goes back", () => {
    const { say, clock } = session();
    expect(say("clock_step 100")).toBe("OK 100\n");
    expect(say("clock_set 50")).toBe("OK 100\n");
    expect(say("clock_set 1000")).toBe("OK 1000\n");
    expect(clock.now()).toBe(1000n);
    expect(say("clock_step x")).toBe("FAIL invalid argument\n");
  });

  it("tells those who wait in the order of their moments, and steps to the next one", () => {
    const { say, clock } = session();
    const rung: string[] = [];
    clock.timer(2, () => rung.push(`two at ${clock.now()}`));
    clock.timer(1, () => rung.push(`one at ${clock.now()}`));
    clock.timer(1, () => rung.push("cancelled"))();
    expect(say("clock_step")).toBe("OK 1000000\n");
    expect(rung).toEqual(["one at 1000000"]);
    expect(say("clock_step 5000000")).toBe("OK 6000000\n");
    expect(rung).toEqual(["one at 1000000", "two at 2000000"]);
  });

  it("keeps what was written to memory", () => {
    const { say } = session();
    expect(say("writel 0x1000 0x12345678")).toBe("OK\n");
    expect(say("readl 0x1000")).toBe("OK 0x0000000012345678\n");
    expect(say("readb 0x1000")).toBe("OK 0x0000000000000078\n");
    expect(say("read 0xffe 4")).toBe("OK 0x00007856\n");
    expect(say("write 0x2000 3 0x0a0b0c")).toBe("OK\n");
    expect(say("b64read 0x2000 3")).toBe(`OK ${btoa("\x0a\x0b\x0c")}\n`);
    expect(say("memset 0x2000 2 0xff")).toBe("OK\n");
    expect(say("read 0x2000 3")).toBe("OK 0xffff0c\n");
    expect(say("write 0x2000 1 0x0a0b")).toBe("ERR invalid argument size\n");
  });

  it("bounds what memory it keeps", () => {
    const { say } = session();
    for (let at = 0; at < 16; at++) expect(say(`memset ${at * 2 ** 20} ${2 ** 20} 1`)).toBe("OK\n");
    expect(say(`memset ${2 ** 40} 1 1`)).toBe("FAIL out of memory\n");
    expect(say(`memset 0 ${2 ** 21} 1`)).toBe("FAIL invalid argument\n");
  });

  it("accepts interrupts and ports, and refuses what it does not know", () => {
    const { say } = session();
    expect(say("irq_intercept_in ioapic")).toBe("OK\n");
    expect(say("outb 0x3f8 0x41")).toBe("OK\n");
    expect(say("inw 0x3f8")).toBe("OK 0xffff\n");
    expect(say("endianness")).toBe("OK little\n");
    expect(say("")).toBe("");
    expect(say("nope 1")).toBe("FAIL Unknown command 'nope'\n");
  });
});
