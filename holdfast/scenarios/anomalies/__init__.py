"""Anomalies of tables: what broken feeds do to rows."""
