// Asks the database for what the event says, over one connection that lives as long as the environment.
const { Client } = require("pg");

let client;

exports.handler = async (event) => {
  if (!client) {
    client = new Client({
      host: process.env.DB_HOST,
      port: 5432,
      user: "shop",
      password: "secret",
      database: "shop",
      connectionTimeoutMillis: 3000,
    });
    client.on("error", () => (client = undefined));
    try {
      await client.connect();
    } catch (error) {
      client = undefined;
      return { error: error.message };
    }
  }
  const answer = await client.query(event.query, event.values || []);
  return { rows: answer.rows };
};
