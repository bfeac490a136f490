// Asks for each name: `system NAME...` as any program does, `ADDRESS:PORT NAME...` that server, by c-ares.
const dns = require("node:dns").promises;

const [server, ...names] = process.argv.slice(2);
const resolver = new dns.Resolver();
if (server !== "system") resolver.setServers([server]);

async function ask(name) {
  if (server === "system") return (await dns.lookup(name, { family: 4, all: true })).map((found) => found.address);
  if (name.startsWith("_")) return (await resolver.resolveSrv(name)).map((found) => `${found.name}.${found.port}`);
  return resolver.resolve4(name);
}

(async () => {
  for (const name of names) {
    const said = await ask(name).then(
      (found) => found.join(" "),
      (error) => (error.code === "ENOTFOUND" ? "not found" : String(error)),
    );
    console.log(`${name}: ${said}`);
  }
})();
