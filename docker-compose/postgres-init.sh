#!/bin/sh
# At the first start with an empty volume: creates a database and a user each for Prefect and MLflow. Neither can use the other's.
set -eu
for name in prefect mlflow; do
  # Through standard input, because a list of processes would show arguments.
  psql --quiet --set ON_ERROR_STOP=1 --username postgres --dbname postgres <<SQL
CREATE USER $name PASSWORD '$(cat "/run/secrets/$name-database-password")';
CREATE DATABASE $name OWNER $name;
REVOKE CONNECT ON DATABASE $name FROM PUBLIC;
SQL
done
