/**
 * The monitor's face: sessions, the registry of commands, and the client.
 */
export {
  QmpClient,
  QmpClientEvent,
  type AnyClientEvent,
  type ClientEvent,
  type QmpConnectOptions,
} from "./client.ts";
export {
  CommandRegistry,
  type CommandContext,
  type CommandHandler,
  type CommandHandlers,
} from "./registry.ts";
export { serveMonitor } from "./serve.ts";
export { QmpSession, type QmpSessionOptions, type QmpSessionState } from "./session.ts";
