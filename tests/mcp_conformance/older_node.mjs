// The suite imports fs.globSync, which Node.js has from version 22 on, for a command that we don't use.
import fs from 'node:fs';
import { register } from 'node:module';

if (!fs.globSync) register('./without_glob.mjs', import.meta.url);
