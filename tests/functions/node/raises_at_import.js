throw new RangeError("CACHE_HOST is not set");
