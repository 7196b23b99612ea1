-- A role that reads what the export needs, and nothing else: no user, no token, no storage, no other column.
-- Execute it as the owner of the tables, in the database of Label Studio.
CREATE ROLE autoexport LOGIN;
ALTER ROLE autoexport SET default_transaction_read_only = on;
GRANT USAGE ON SCHEMA public TO autoexport;
GRANT SELECT (id, title, description, label_config, created_at, updated_at, deleted_at, xmin)
    ON project TO autoexport;
GRANT SELECT (id, project_id, data, is_labeled, created_at, updated_at, xmin) ON task TO autoexport;
GRANT SELECT (id, task_id, result, was_cancelled, ground_truth, created_at, updated_at, xmin)
    ON task_completion TO autoexport;
