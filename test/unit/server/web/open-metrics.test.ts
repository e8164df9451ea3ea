// The text of OpenMetrics, by a strict parser of its own.
import { describe, expect, it } from "vitest";
import { type Family, openMetrics } from "../../../../src/server/web/open-metrics.ts";
import { parseOpenMetrics } from "../../../support/open-metrics.ts";

const odd = 'a "quoted" back\\slash\nand a line {x="1"}, 2';

describe("openMetrics()", () => {
  it("writes what a strict parser reads back", () => {
    const families: Family[] = [
      { name: "one_bytes", type: "counter", unit: "bytes", help: odd, samples: [{ labels: {}, value: 7 }] },
      { name: "two", type: "gauge", help: "Two.", samples: [{ labels: { odd, b: "" }, value: -0.25 }] },
      { name: "three", type: "info", help: "Three.", samples: [{ labels: { version: "1" }, value: 1 }] },
      { name: "none", type: "gauge", help: "Nobody has any.", samples: [] },
    ];
    const read = parseOpenMetrics(openMetrics(families));
    expect([...read.keys()]).toEqual(["one_bytes", "two", "three", "none"]);
    expect(read.get("one_bytes")?.samples).toEqual([{ name: "one_bytes_total", labels: {}, value: 7 }]);
    expect(read.get("two")?.samples).toEqual([{ name: "two", labels: { odd, b: "" }, value: -0.25 }]);
    expect(read.get("three")?.samples[0]?.name).toBe("three_info");
  });

  it("is read by a parser that refuses what is wrong", () => {
    const wrong = [
      "",
      "# TYPE a gauge\na 1\n",
      "a 1\n# EOF\n",
      "# TYPE a gauge\na 1 \n# EOF\n",
      "# TYPE a counter\na 1\n# EOF\n",
      "# TYPE a gauge\na 1\na 1\n# EOF\n",
      '# TYPE a gauge\na{b="c" } 1\n# EOF\n',
      "# TYPE a gauge\n\na 1\n# EOF\n",
      "# TYPE a gauge\na 1\n# TYPE b gauge\nb 1\n# TYPE a gauge\n# EOF\n",
      "# TYPE a gauge\n# UNIT a bytes\na 1\n# EOF\n",
    ];
    for (const text of wrong) expect(() => parseOpenMetrics(text), text).toThrow();
  });
});
