"""A registry in a database: SQLAlchemy Core on one SQLite file, or on PostgreSQL for teams."""
