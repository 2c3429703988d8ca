// An ES module with a top-level await.

const greeting = await Promise.resolve("hello from a module");

export const handler = async (event) => ({ greeting, event });
