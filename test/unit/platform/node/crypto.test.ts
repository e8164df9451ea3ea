// Node's cryptography, and the modes over it.
import { nodeCrypto } from "../../../../src/platform/node/crypto.ts";
import { cryptoSuite } from "../../crypto/suite.ts";

cryptoSuite(nodeCrypto);
