// Makes, reads, changes and deletes what @hapic/harbor knows: projects, repositories, artifacts, labels on them, robots, webhooks.
// Arguments: ADDRESS of the way in, ADDRESS to read at, USER, PASSWORD, TOKEN for names, LABEL's number. Pushed before: app:v1.
import assert from 'node:assert/strict';
import { buildRobotPermissionForAllResources, HarborClient, isClientErrorWithStatusCode } from '@hapic/harbor';

const [address, other, user, password, token, label] = process.argv.slice(2);
const at = (host) => new HarborClient({ connectionOptions: { host: `http://${host}/api/v2.0/`, user, password } });
const way = at(address);
const reads = at(other);
const projectName = `hapic-${token}`;

async function assertGone(promise) {
    await assert.rejects(promise, (error) => isClientErrorWithStatusCode(error, 404));
}

async function projects() {
    const name = `hapic-p-${token}`;
    const { id } = await way.project.create({ project_name: name, public: false, storage_limit: 1_000_000_000 });
    assert.equal((await reads.project.getOne(id)).name, name);
    assert.equal((await reads.project.getOne(name, true)).metadata.public, 'false');
    // Harbor takes the short form only when a project is made.
    await way.project.update(name, { project_name: name, metadata: { public: 'true' } }, true);
    const found = await reads.project.getMany({ query: { name, q: { name } } });
    assert.deepEqual([found.meta.total, found.data[0].metadata.public], [1, 'true']);
    const all = await reads.project.getAll({ query: { page_size: 2 } });
    assert.ok(all.data.some((one) => one.project_id === id));
    await way.project.delete(name, true);
    await assertGone(reads.project.getOne(id));
}

async function content() {
    const where = { projectName, repositoryName: 'app' };
    assert.equal((await reads.projectRepository.getOne(where)).name_short, 'app');
    assert.equal((await reads.projectRepository.findOne(where)).project_name, projectName);
    await way.projectRepository.update({ ...where, data: { description: 'an app' } });
    assert.equal((await reads.projectRepository.getAll({ projectName })).data[0].description, 'an app');
    const query = { with_tag: true, with_label: true, q: { tags: 'v1' } };
    const listed = () => reads.projectRepositoryArtifact.getMany({ ...where, query });
    assert.deepEqual((await listed()).map((one) => one.tags.map((tag) => tag.name)), [['v1']]);
    await way.projectRepositoryArtifactLabel.create({ ...where, labelId: Number(label), tagOrDigest: 'v1' });
    assert.deepEqual((await listed())[0].labels.map((one) => one.id), [Number(label)]);
    await way.projectRepositoryArtifactLabel.delete({ ...where, labelId: Number(label), tagOrDigest: 'v1' });
    assert.ok(!(await listed())[0].labels?.length);
    const copy = { projectName, repositoryName: 'copy' };
    await way.projectRepositoryArtifact.copy(copy, { ...where, artifactTag: 'v1' });
    assert.equal((await reads.projectRepositoryArtifact.getMany(copy)).length, 1);
    await way.projectRepositoryArtifact.delete({ ...copy, tagOrDigest: 'v1' });
    assert.equal((await reads.projectRepositoryArtifact.getMany(copy)).length, 0);
    assert.ok((await reads.search(projectName)).repository.some((one) => one.repository_name === `${projectName}/app`));
    for (const repositoryName of ['copy', 'app']) {
        await way.projectRepository.delete({ projectName, repositoryName });
        await assertGone(reads.projectRepository.getOne({ projectName, repositoryName }));
    }
}

async function robots() {
    const wanted = { name: `r${token}`, permissions: [buildRobotPermissionForAllResources(projectName)] };
    const made = await way.robot.create({ ...wanted });
    assert.ok(made.secret);
    const shown = await reads.robot.getOne(made.id);
    assert.equal(shown.permissions[0].access.length, wanted.permissions[0].access.length);
    assert.equal(shown.level, 'system');
    await way.robot.update(made.id, { ...shown, description: 'changed' });
    assert.equal((await reads.robot.getOne(made.id)).description, 'changed');
    assert.equal((await way.robot.updateSecret(made.id, 'Chosen-Secret-1')).secret, 'Chosen-Secret-1');
    assert.ok((await way.robot.updateSecret(made.id)).secret.length > 8);
    // As Harbor keeps it: without the prefix.
    const { data } = await reads.robot.getMany({ query: { q: { name: `r${token}` } } });
    assert.deepEqual(data.map((one) => one.id), [made.id]);
    await way.robot.delete(made.id);
    await assertGone(reads.robot.getOne(made.id));
}

async function webhooks() {
    const project = { projectIdOrName: projectName, isProjectName: true };
    const targets = [{ type: 'http', address: 'http://127.0.0.1:9/hook', skip_cert_verify: true, auth_header: 'Bearer x' }];
    const { id } = await way.projectWebhookPolicy.create({ ...project, data: { name: 'hook', targets } });
    const shown = await reads.projectWebhookPolicy.getOne({ ...project, id });
    assert.deepEqual([shown.targets[0].address, shown.targets[0].auth_header], [targets[0].address, 'Bearer x']);
    const event_types = ['DELETE_ARTIFACT'];
    await way.projectWebhookPolicy.update({ ...project, id, data: { name: 'hook', targets, enabled: false, event_types } });
    const found = await reads.projectWebhookPolicy.findOne({ ...project, name: 'hook' });
    assert.deepEqual([found.id, found.enabled, found.event_types], [id, false, ['PUSH_ARTIFACT', 'DELETE_ARTIFACT']]);
    assert.equal((await reads.projectWebhookPolicy.getMany(project)).meta.total, 1);
    await way.projectWebhookPolicy.deleteByName({ ...project, name: 'hook' });
    await assertGone(reads.projectWebhookPolicy.getOne({ ...project, id }));
}

for (const step of [projects, content, robots, webhooks]) {
    await step();
}
