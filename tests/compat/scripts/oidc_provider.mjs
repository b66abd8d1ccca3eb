// Runs oidc-provider on a free port of loopback, and prints its address when it answers. Argument: a JSON object with `clients` in
// the provider's own words, and `people`: of each account its claims.
import { createServer } from 'node:http';
import Provider from 'oidc-provider';

const { clients, people } = JSON.parse(process.argv[2]);
const server = createServer();
await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
const issuer = `http://127.0.0.1:${server.address().port}`;
const provider = new Provider(issuer, {
    clients,
    scopes: ['openid', 'profile', 'email', 'groups'],
    claims: { openid: ['sub'], profile: ['name', 'preferred_username'], email: ['email'], groups: ['groups'] },
    pkce: { required: () => true },
    features: { devInteractions: { enabled: true } },
    cookies: { keys: ['a test signs with this'] },
    async findAccount(_context, accountId) {
        return people[accountId] && { accountId, async claims() { return { sub: accountId, ...people[accountId] }; } };
    },
});
server.on('request', provider.callback());
process.stdout.write(`${issuer}\n`);
