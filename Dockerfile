# One image for collector and dashboard; docker-compose.yml chooses by command.
FROM python:3.11-slim
WORKDIR /app
COPY pyproject.toml constraints.txt README.md ./
COPY sdk sdk
COPY collector collector
COPY dashboard dashboard
COPY migrations migrations
RUN pip install --no-cache-dir --constraint constraints.txt '.[server,postgres]' \
 && useradd --create-home limelight && mkdir /data && chown limelight /data
USER limelight
EXPOSE 4317 4318 8501
CMD ["limelight", "up"]
