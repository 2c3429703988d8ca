export const handler = async () => "typed module";
