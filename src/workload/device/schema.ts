/** The schema of a device model; see model.ts for what the members mean. */
import type { Schema } from "../model/schema.ts";

const time: Schema = { $ref: "#/$defs/time" };
const size: Schema = { $ref: "#/$defs/size" };
const count: Schema = { type: "integer", minimum: 1, maximum: 65536 };
const operations: Schema = {
  type: "array",
  items: { type: "string", enum: ["read", "write", "zero", "discard", "flush"] },
};

const latency: Schema = {
  description: "a time, or a distribution of times",
  anyOf: [
    time,
    {
      type: "object",
      required: ["uniform"],
      properties: { uniform: { type: "array", minItems: 2, items: time } },
    },
    {
      type: "object",
      required: ["mean", "deviation"],
      properties: { mean: time, deviation: time, least: time },
    },
    {
      type: "object",
      required: ["median", "sigma"],
      properties: { median: time, sigma: { type: "number", minimum: 0, maximum: 10 }, most: time },
    },
    { type: "object", required: ["exponential"], properties: { exponential: time, base: time } },
    {
      type: "object",
      required: ["percentiles"],
      properties: {
        percentiles: {
          type: "array",
          minItems: 1,
          items: {
            type: "object",
            required: ["at", "time"],
            properties: { at: { type: "number", minimum: 0, maximum: 100 }, time },
          },
        },
      },
    },
  ],
};

const errno: Schema = { type: "string", pattern: "^E[A-Z]+$" };

/** A device model, as a part of a schema that has the definitions `size` and `time`. */
export const deviceSchema: Schema = {
  type: "object",
  properties: {
    name: { type: "string" },
    description: { type: "string" },
    channels: { ...count, description: "requests that are worked on at once; default 1" },
    queueDepth: { ...count, description: "requests that the device takes at once; more wait outside" },
    latency: {
      type: "object",
      properties: { read: latency, write: latency, zero: latency, discard: latency, flush: latency },
    },
    bytesPerSecond: { type: "object", properties: { read: size, write: size, total: size } },
    seek: {
      type: "object",
      required: ["least", "most"],
      properties: { least: time, most: time, rotation: time },
    },
    cache: {
      type: "object",
      required: ["size", "bytesPerSecond"],
      properties: { size, bytesPerSecond: size, flush: time },
    },
    cliff: {
      type: "object",
      required: ["after", "bytesPerSecond"],
      properties: { after: size, bytesPerSecond: size },
    },
    zones: {
      type: "array",
      items: {
        type: "object",
        required: ["errorRate"],
        properties: {
          offset: size,
          size,
          errorRate: { type: "number", minimum: 0, maximum: 1 },
          errno,
          operations,
        },
      },
    },
    faults: {
      type: "array",
      items: {
        type: "object",
        required: ["kind"],
        properties: {
          kind: { type: "string", enum: ["stall", "slow", "error", "power-cut"] },
          at: time,
          every: time,
          for: time,
          factor: { type: "number", exclusiveMinimum: 0 },
          nth: { type: "integer", minimum: 1 },
          errno,
          operations,
        },
      },
    },
  },
};
