/**
 * The builder of the schema table, and the TypeScript types that follow from it.
 *
 * The table is shaped as QAPI's own schema: a member's type is named by a string, a list is a one-element array, and a
 * leading `*` makes a member optional. Names are the wire's. Types refer to each other by name only, so the table may
 * be recursive; `ValueOf` looks the names up in the finished table.
 * Source: QEMU, docs/devel/qapi-code-gen (the schema language), and `query-qmp-schema` of qemu-storage-daemon 7.2.
 */
import type { Json } from "./json.ts";

/** The types that need no definition, with the TypeScript type of their values. */
export interface Builtins {
  str: string;
  bool: boolean;
  number: number;
  null: null;
  any: Json;
  int: number;
  int8: number;
  int16: number;
  int32: number;
  int64: number;
  uint8: number;
  uint16: number;
  uint32: number;
  uint64: number;
  size: number;
}

/** A builtin type's name. Integers beyond the safe range are narrowed to it by the validator. */
export type BuiltinName = keyof Builtins;

/** A type by name; `[name]` is a list of it. */
export type TypeRef = string | readonly [string];

/** A member's type, plain or with features (`deprecated`, `unstable`) for introspection. */
export type MemberRef = TypeRef | { readonly type: TypeRef; readonly features: readonly string[] };

/** Members by wire name; `*name` is optional. The order is the order in which they are checked. */
export type Members = { readonly [name: string]: MemberRef };

/** One of a set of strings. */
export interface EnumDef<V extends readonly string[] = readonly string[]> {
  readonly kind: "enum";
  readonly values: V;
  /** Features of single values. */
  readonly valueFeatures: { readonly [value: string]: readonly string[] };
}

/** An object with fixed members; those of `base` come first. */
export interface StructDef<M extends Members = Members, B extends string = string> {
  readonly kind: "struct";
  readonly members: M;
  readonly base: B | undefined;
  readonly features: readonly string[];
  /** Takes members that it does not name: whose they are looks at them. `kept`: they are handed on as they are. */
  readonly isOpen?: true | "kept";
}

/** An object whose member `tag` (an enum) says which further members it has. `null`: none. */
export interface UnionDef<
  M extends Members = Members,
  D extends string = string,
  C extends Branches = Branches,
> {
  readonly kind: "union";
  readonly base: M;
  readonly tag: D;
  readonly branches: C;
}

/** A union's branches: enum value → type name. */
export type Branches = { readonly [value: string]: string | null };

/** A value that is one of several types, told apart by its JSON type. */
export interface AlternateDef<A extends readonly string[] = readonly string[]> {
  readonly kind: "alternate";
  readonly types: A;
}

/** A thing of the program that has no form on the wire (a signal, a function, a buffer): the library's tables alone have it. */
export interface ThingDef {
  readonly kind: "thing";
  /** What it is called where something else was given. */
  readonly words: string;
  is(value: unknown): boolean;
}

/** A definition in the table of types. */
export type TypeDef = EnumDef | StructDef | UnionDef | AlternateDef | ThingDef;

/** Types by name. */
export type TypeTable = { readonly [name: string]: TypeDef };

/** A command: `data` is the name of its argument type or its members, `returns` the type of its answer. */
export interface CommandDef<A extends string | Members = string | Members, R extends TypeRef = TypeRef> {
  readonly data: A;
  readonly returns: R | undefined;
  readonly features: readonly string[];
}

/** Commands by name. */
export type CommandTable = { readonly [name: string]: CommandDef };

/** Events by name, with the members of their data. */
export type EventTable = { readonly [name: string]: Members };

/** Defines an enum. @__NO_SIDE_EFFECTS__ */
export function enumOf<const V extends readonly string[]>(...values: V): EnumDef<V> {
  return { kind: "enum", values, valueFeatures: {} };
}

/** Defines an enum some of whose values have features. @__NO_SIDE_EFFECTS__ */
export function enumWith<const V extends readonly string[]>(
  values: V,
  valueFeatures: { readonly [value: string]: readonly string[] },
): EnumDef<V> {
  return { kind: "enum", values, valueFeatures };
}

/** Defines a struct. @__NO_SIDE_EFFECTS__ */
export function struct<const M extends Members>(
  members: M,
  ...features: readonly string[]
): StructDef<M, never> {
  return { kind: "struct", members, base: undefined, features };
}

/** Defines a struct that begins with the members of another one. @__NO_SIDE_EFFECTS__ */
export function extend<const B extends string, const M extends Members>(
  base: B,
  members: M,
): StructDef<M, B> {
  return { kind: "struct", members, base, features: [] };
}

/** Defines a flat union. @__NO_SIDE_EFFECTS__ */
export function union<const M extends Members, const D extends string, const C extends Branches>(definition: {
  readonly base: M;
  readonly tag: D;
  readonly branches: C;
}): UnionDef<M, D, C> {
  return { kind: "union", ...definition };
}

/** Defines an alternate; the types must differ in their JSON type. @__NO_SIDE_EFFECTS__ */
export function alternate<const A extends readonly string[]>(...types: A): AlternateDef<A> {
  return { kind: "alternate", types };
}

/** Defines a command. @__NO_SIDE_EFFECTS__ */
export function command<
  const A extends string | Members = Record<never, never>,
  const R extends TypeRef = never,
>(
  definition: { readonly data?: A; readonly returns?: R } = {},
  ...features: readonly string[]
): CommandDef<A, R> {
  return { data: definition.data ?? ({} as A), returns: definition.returns, features };
}

/** A part of a table. What makes a definition is called when that is asked for first: a run that opens one image asks for few. */
type Part = { readonly [name: string]: TypeDef | (() => TypeDef) };

type Together<P extends readonly Part[]> = P extends readonly [
  infer First,
  ...infer Rest extends readonly Part[],
]
  ? { [N in keyof First]: First[N] extends () => infer Made ? Made : First[N] } & Together<Rest>
  : unknown;

/** Puts tables of types together. A bundler may leave out what nobody reads. @__NO_SIDE_EFFECTS__ */
export function tableOf<const P extends readonly Part[]>(...parts: P): Simplify<Together<P>> {
  const all = Object.assign(Object.create(null) as object, ...parts) as Record<string, Part[string]>;
  const get = (_all: object, name: string): TypeDef | undefined => {
    const found = all[name];
    return typeof found === "function" ? (all[name] = found()) : found;
  };
  return new Proxy(all, { get }) as Simplify<Together<P>>;
}

/** Flattens an intersection, so that editors show one object. */
type Simplify<T> = { [K in keyof T]: T[K] };

type RefOf<M> = M extends { readonly type: infer R } ? R : M;

/** The TypeScript type of a set of members. */
export type MembersOf<T extends TypeTable, M> = Simplify<
  {
    -readonly [K in keyof M as K extends `*${string}` ? never : K]: ValueOf<T, RefOf<M[K]>>;
  } & {
    -readonly [K in keyof M as K extends `*${infer N}` ? N : never]?: ValueOf<T, RefOf<M[K]>>;
  }
>;

type BranchOf<T extends TypeTable, C> = C extends string ? ValueOf<T, C> : unknown;

type UnionOf<T extends TypeTable, M, D extends string, C> = {
  [V in keyof C]: MembersOf<T, M> & { [K in D]: V } & BranchOf<T, C[V]>;
}[keyof C];

type DefinitionOf<T extends TypeTable, D> =
  D extends EnumDef<infer V>
    ? V[number]
    : D extends StructDef<infer M, infer B>
      ? [B] extends [never]
        ? MembersOf<T, M>
        : ValueOf<T, B> & MembersOf<T, M>
      : D extends UnionDef<infer M, infer G, infer C>
        ? UnionOf<T, M, G, C>
        : D extends AlternateDef<infer A>
          ? ValueOf<T, A[number]>
          : never;

/** The TypeScript type of the values of type `R` (a name, or `[name]`) in table `T`. */
export type ValueOf<T extends TypeTable, R> = R extends readonly [infer E]
  ? ValueOf<T, E>[]
  : R extends keyof Builtins
    ? Builtins[R]
    : R extends keyof T
      ? DefinitionOf<T, T[R]>
      : never;

/** A member as the readers of the table want it. */
export interface Member {
  readonly name: string;
  readonly optional: boolean;
  readonly type: TypeRef;
  readonly features: readonly string[];
}

/** The members in order, `*` and features taken apart. */
export function membersOf(members: Members): Member[] {
  return Object.entries(members).map(([key, ref]) => {
    const optional = key.startsWith("*");
    const plain = typeof ref === "string" || isListRef(ref);
    return {
      name: optional ? key.slice(1) : key,
      optional,
      type: plain ? ref : ref.type,
      features: plain ? [] : ref.features,
    };
  });
}

/** Whether a reference names a list. */
export function isListRef(ref: MemberRef): ref is readonly [string] {
  return Array.isArray(ref);
}
